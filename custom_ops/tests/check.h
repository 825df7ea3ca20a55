// The whole test framework: TEST registers a function, CHECK stops it with file, line and text.
#pragma once

#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

namespace onnx_memo::testing {

struct Test {
  const char* name;
  void (*run)();
};

inline std::vector<Test>& Tests() {
  static std::vector<Test> tests;
  return tests;
}

inline bool Register(const char* name, void (*run)()) {
  Tests().push_back({name, run});
  return true;
}

inline void Fail(const char* file, int line, const std::string& text) {
  throw std::logic_error(std::string(file) + ":" + std::to_string(line) + ": " + text);
}

// The message of the exception of type `Error` that `function` throws, or "nothing thrown".
template <typename Error, typename Function>
std::string Message(const Function& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing thrown";
}

}  // namespace onnx_memo::testing

#define TEST(name)                                                                    \
  static void name();                                                                 \
  static const bool name##_registered = ::onnx_memo::testing::Register(#name, &name); \
  static void name()

#define CHECK(condition) \
  if (!(condition)) ::onnx_memo::testing::Fail(__FILE__, __LINE__, #condition)

// The text must contain the part.
#define CHECK_SAYS(text, part)                \
  if ((text).find(part) == std::string::npos) \
  ::onnx_memo::testing::Fail(__FILE__, __LINE__, "'" + (text) + "' does not say '" + (part) + "'")
