// Runs every registered test, or those whose name contains the first argument.
#include <cstdio>
#include <cstring>
#include <exception>

#include "tests/check.h"

int main(int count, char** arguments) {
  int failed = 0;
  int run = 0;
  for (const auto& test : onnx_memo::testing::Tests()) {
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
