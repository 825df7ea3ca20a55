// The error that refuses an input, the text of its message, and sizes that cannot overflow.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

namespace onnx_memo {

// Says what was found and what to do about it. Becomes an INVALID_ARGUMENT status that names the operator.
class InvalidArgument : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline std::string Text(const char* text) { return text; }
inline std::string Text(const std::string& text) { return text; }
template <typename Number>
std::string Text(Number number) {
  return std::to_string(number);
}

// Throws InvalidArgument with all parts joined.
template <typename... Parts>
[[noreturn]] void Refuse(const Parts&... parts) {
  throw InvalidArgument((std::string() + ... + Text(parts)));
}

// The product of two sizes that are not negative. Throws InvalidArgument when it exceeds int64.
inline std::int64_t Product(std::int64_t a, std::int64_t b) {
  if (b != 0 && a > std::numeric_limits<std::int64_t>::max() / b) {
    Refuse("a tensor of ", a, " times ", b, " elements is too large; check the shapes and lengths");
  }
  return a * b;
}

// Their sum, likewise.
inline std::int64_t Sum(std::int64_t a, std::int64_t b) {
  if (a > std::numeric_limits<std::int64_t>::max() - b) {
    Refuse("a tensor of ", a, " plus ", b, " elements is too large; check the shapes and lengths");
  }
  return a + b;
}

// For a number that is known not to be negative.
inline std::size_t Size(std::int64_t number) { return static_cast<std::size_t>(number); }

}  // namespace onnx_memo
