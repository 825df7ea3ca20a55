// A stand-in for ONNX Runtime: just enough of its function table to run one operator.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "ort/ort_abi.h"

namespace onnx_memo::testing {

struct FakeValue {
  ort::ElementType type = ort::ElementType::kUndefined;
  std::vector<std::int64_t> dims;
  std::vector<unsigned char> bytes;
};

template <typename T>
FakeValue Tensor(ort::ElementType type, std::vector<std::int64_t> dims, const std::vector<T>& numbers) {
  const auto* begin = reinterpret_cast<const unsigned char*>(numbers.data());
  return {type, std::move(dims), {begin, begin + numbers.size() * sizeof(T)}};
}

inline FakeValue FloatTensor(std::vector<std::int64_t> dims, const std::vector<float>& numbers) {
  return Tensor(ort::ElementType::kFloat, std::move(dims), numbers);
}
inline FakeValue IntTensor(std::vector<std::int64_t> dims, const std::vector<std::int64_t>& numbers) {
  return Tensor(ort::ElementType::kInt64, std::move(dims), numbers);
}
inline FakeValue HalfTensor(std::vector<std::int64_t> dims, const std::vector<std::uint16_t>& numbers) {
  return Tensor(ort::ElementType::kFloat16, std::move(dims), numbers);
}
inline FakeValue ByteTensor(const std::vector<std::uint8_t>& bytes) {
  return Tensor(ort::ElementType::kUint8, {static_cast<std::int64_t>(bytes.size())}, bytes);
}

// The elements of a tensor of this type.
template <typename T>
std::vector<T> Numbers(const FakeValue& value) {
  std::vector<T> numbers(value.bytes.size() / sizeof(T));
  if (!numbers.empty()) std::memcpy(numbers.data(), value.bytes.data(), value.bytes.size());
  return numbers;
}

// Bytes of one element.
std::size_t ElementSize(ort::ElementType type);

// The most bytes that an output may have. Allocating more fails, as it would in ONNX Runtime for want of memory.
constexpr std::int64_t kMostBytes = std::int64_t{1} << 23;

// What a call ends with: an empty message and the outputs' bytes, or a status.
struct FakeResult {
  ort::ErrorCode code{};
  std::string message;
  std::vector<FakeValue> outputs;
};

// The operators that the library registers, by the order of registration.
class FakeOrt {
 public:
  FakeOrt();  // calls RegisterCustomOps; throws when that returns a status

  const std::vector<const ort::CustomOp*>& operators() const { return operators_; }

  void* CreateKernel(const ort::CustomOp* op) const;
  static FakeResult Run(const ort::CustomOp* op, void* kernel, const std::vector<FakeValue>& inputs);

  // Creates a kernel for one call.
  FakeResult Run(const char* name, const std::vector<FakeValue>& inputs) const;
  const ort::CustomOp* Find(const char* name) const;

 private:
  std::vector<const ort::CustomOp*> operators_;
};

// The message of the status that registration returns under an ONNX Runtime of this API version, or "".
std::string RegistrationMessage(std::uint32_t version);

// How often kernels asked for threads.
int ParallelCalls();

}  // namespace onnx_memo::testing
