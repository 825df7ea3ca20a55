// Runs every registered test, or those whose name contains the first argument.
#include <cstdio>
#include <cstring>
#include <exception>
#include <vector>

#include "simd/integers.h"
#include "simd/simd.h"
#include "tests/check.h"

namespace {

template <typename Level>
void PrintNames(const char* what, const std::vector<const Level*>& levels) {
  std::printf("%s:", what);
  for (const Level* level : levels) std::printf(" %s", level->name);
  std::printf("\n");
}

}  // namespace

int main(int count, char** arguments) {
  using namespace onnx_memo;
  PrintNames("levels that this processor runs", simd::Supported());
  PrintNames("of products in 8 bits", simd::SupportedIntegers());
  int failed = 0;
  int run = 0;
  for (const auto& test : testing::Tests()) {
    if (count > 1 && std::strstr(test.name, arguments[1]) == nullptr) continue;
    ++run;
    try {
      test.run();
    } catch (const std::exception& error) {
      ++failed;
      std::printf("FAILED %s\n  %s\n", test.name, error.what());
    }
  }
  std::printf("%d of %d tests passed\n", run - failed, run);
  return failed == 0 && run > 0 ? 0 : 1;
}
