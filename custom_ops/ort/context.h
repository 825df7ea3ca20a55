// One call of a kernel: its input and output tensors, and the session's threads.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <vector>

#include "ort/ort_abi.h"
#include "ort/view.h"

namespace onnx_memo {

// A status that ONNX Runtime returned to us and that is to be handed back unchanged.
struct CallFailed {
  ort::Status* status;
};

inline void Check(ort::Status* status) {
  if (status != nullptr) throw CallFailed{status};
}

template <typename T>
constexpr ort::ElementType kElementType = ort::ElementType::kUndefined;
template <>
inline constexpr ort::ElementType kElementType<float> = ort::ElementType::kFloat;
template <>
inline constexpr ort::ElementType kElementType<std::uint8_t> = ort::ElementType::kUint8;
template <>
inline constexpr ort::ElementType kElementType<std::int8_t> = ort::ElementType::kInt8;
template <>
inline constexpr ort::ElementType kElementType<std::int32_t> = ort::ElementType::kInt32;
template <>
inline constexpr ort::ElementType kElementType<bool> = ort::ElementType::kBool;
template <>
inline constexpr ort::ElementType kElementType<std::int64_t> = ort::ElementType::kInt64;
template <>
inline constexpr ort::ElementType kElementType<std::uint16_t> = ort::ElementType::kFloat16;  // as bits

// An input or output of an operator.
struct TensorSpec {
  const char* name;
  ort::ElementType type;
};

class Context {
 public:
  // `inputs` is the operator's table of them.
  Context(const ort::Api* api, ort::KernelContext* context, const TensorSpec* inputs)
      : api_(api), context_(context), inputs_(inputs) {}

  // The input as it lies in memory. Throws InvalidArgument when it has another rank or element type.
  template <typename T, std::size_t rank>
  View<const T, rank> Input(std::size_t index) const {
    View<const T, rank> view;
    ort::Value* value = ReadInput(index, kElementType<T>, view.dims.data(), rank);
    if (view.count() > 0) view.data = static_cast<const T*>(Data(value));
    return view;
  }

  // The input, of any rank but 0, as a matrix: its rows are all dimensions but the last. `dims` receives its shape.
  template <typename T>
  View<const T, 2> Rows(std::size_t index, std::vector<std::int64_t>* dims) const {
    View<const T, 2> view;
    ort::Value* value = ReadRows(index, kElementType<T>, dims);
    std::int64_t rows = 1;
    for (std::size_t i = 0; i + 1 < dims->size(); ++i) rows = Product(rows, (*dims)[i]);
    view.dims = {rows, dims->back()};
    if (view.count() > 0) view.data = static_cast<const T*>(Data(value));
    return view;
  }

  // The only element of a scalar, or of any tensor that holds one.
  template <typename T>
  T Single(std::size_t index) const {
    return *static_cast<const T*>(ReadSingle(index, kElementType<T>));
  }

  // Allocates the output. Its elements are uninitialized.
  template <typename T, std::size_t rank>
  View<T, rank> Output(std::size_t index, const std::array<std::int64_t, rank>& dims) const {
    return {static_cast<T*>(Allocate(index, dims.data(), rank)), dims};
  }

  // The same for a shape whose rank is not known before. Null if it has no elements.
  template <typename T>
  T* OutputOf(std::size_t index, const std::vector<std::int64_t>& dims) const {
    return static_cast<T*>(Allocate(index, dims.data(), dims.size()));
  }

  // Calls `function(i)` for every i below `count`. The session's threads share the calls when `work`, the number of
  // multiplications or moved elements, is worth their start. Rethrows an exception of `function` when all have ended.
  template <typename Function>
  void ForEach(std::size_t count, std::int64_t work, const Function& function) const {
    if (count < 2 || work < kWorkWorthThreads) {
      for (std::size_t i = 0; i < count; ++i) function(i);
      return;
    }
    Shared<Function> shared{&function};
    Check(ort::KernelContextParallelFor::Call(api_, context_, &Shared<Function>::Run, count, 0, &shared));
    if (shared.error) std::rethrow_exception(shared.error);
  }

 private:
  static constexpr std::int64_t kWorkWorthThreads = 1 << 18;

  template <typename Function>
  struct Shared {
    const Function* function;
    std::atomic<bool> failed{false};
    std::exception_ptr error{};  // written once, by whoever sets `failed` first; read after all calls have ended

    static void Run(void* user_data, std::size_t index) noexcept {
      auto* shared = static_cast<Shared*>(user_data);
      try {
        (*shared->function)(index);
      } catch (...) {
        if (!shared->failed.exchange(true)) shared->error = std::current_exception();
      }
    }
  };

  ort::Value* ReadInput(std::size_t index, ort::ElementType type, std::int64_t* dims, std::size_t rank) const;
  ort::Value* ReadRows(std::size_t index, ort::ElementType type, std::vector<std::int64_t>* dims) const;
  void* Allocate(std::size_t index, const std::int64_t* dims, std::size_t rank) const;
  const void* ReadSingle(std::size_t index, ort::ElementType type) const;
  void* Data(ort::Value* value) const;

  const ort::Api* api_;
  ort::KernelContext* context_;
  const TensorSpec* inputs_;
};

}  // namespace onnx_memo
