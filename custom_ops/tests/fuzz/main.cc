// Feeds the files of a folder to a target, where libFuzzer is not there to do it.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/fuzz/harness.h"

int main(int count, char** arguments) {
  if (count != 2) return 2;
  int files = 0;
  for (const auto& file : std::filesystem::directory_iterator(arguments[1])) {
    std::printf("%s\n", file.path().c_str());
    std::ifstream stream(file.path(), std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(stream), {}};
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    ++files;
  }
  return files > 0 ? 0 : 1;
}
