// Turns a kernel class into the table of functions that ONNX Runtime calls.
//
// A kernel class has `kName`, the tables `kInputs` and `kOutputs` (of `TensorSpec`, as onnx_memo/operators/spec.py has
// them), the enums `Input` and `Output` that number their lines, and `void Compute(const Context&)`, which may run in
// several threads at once. It may throw: nothing passes the C boundary but a status.
#pragma once

#include <cstddef>
#include <iterator>
#include <new>
#include <string>

#include "ort/context.h"
#include "ort/error.h"
#include "ort/ort_abi.h"

namespace onnx_memo {

// Runs `body` and returns what it threw as a status whose message starts with `name`.
template <typename Body>
ort::Status* Guarded(const ort::Api* api, const char* name, const Body& body) noexcept {
  const auto status = [&](ort::ErrorCode code, const char* message) {
    try {
      return ort::CreateStatus::Call(api, code, (std::string(name) + ": " + message).c_str());
    } catch (...) {
      return ort::CreateStatus::Call(api, code, name);
    }
  };
  try {
    body();
    return nullptr;
  } catch (const CallFailed& failure) {
    return failure.status;
  } catch (const InvalidArgument& error) {
    return status(ort::ErrorCode::kInvalidArgument, error.what());
  } catch (const std::bad_alloc&) {
    return status(ort::ErrorCode::kFail, "out of memory");
  } catch (const std::exception& error) {
    return status(ort::ErrorCode::kFail, error.what());
  } catch (...) {
    return status(ort::ErrorCode::kFail, "unknown error");
  }
}

template <typename Kernel>
class Operator {
 public:
  // The table lives as long as the library: sessions keep pointers to it.
  static const ort::CustomOp* Table() {
    static const ort::CustomOp table = MakeTable();
    return &table;
  }

 private:
  struct Instance {
    const ort::Api* api;
    Kernel kernel;
  };

  static ort::CustomOp MakeTable() {
    ort::CustomOp table{};
    table.version = ort::kApiVersion;
    table.GetName = &GetName;
    table.GetExecutionProviderType = &GetExecutionProviderType;
    table.GetInputType = &GetInputType;
    table.GetInputTypeCount = &GetInputTypeCount;
    table.GetOutputType = &GetOutputType;
    table.GetOutputTypeCount = &GetOutputTypeCount;
    table.GetInputCharacteristic = &GetCharacteristic;
    table.GetOutputCharacteristic = &GetCharacteristic;
    table.GetInputMemoryType = &GetInputMemoryType;
    table.CreateKernelV2 = &CreateKernel;
    table.KernelComputeV2 = &Compute;
    table.KernelDestroy = &Destroy;
    return table;
  }

  static const char* ONNX_MEMO_ORT_CALL GetName(const ort::CustomOp*) noexcept { return Kernel::kName; }

  static const char* ONNX_MEMO_ORT_CALL GetExecutionProviderType(const ort::CustomOp*) noexcept {
    return nullptr;  // the CPU
  }

  static ort::ElementType ONNX_MEMO_ORT_CALL GetInputType(const ort::CustomOp*, std::size_t index) noexcept {
    return Kernel::kInputs[index].type;
  }

  static std::size_t ONNX_MEMO_ORT_CALL GetInputTypeCount(const ort::CustomOp*) noexcept {
    return std::size(Kernel::kInputs);
  }

  static ort::ElementType ONNX_MEMO_ORT_CALL GetOutputType(const ort::CustomOp*, std::size_t index) noexcept {
    return Kernel::kOutputs[index].type;
  }

  static std::size_t ONNX_MEMO_ORT_CALL GetOutputTypeCount(const ort::CustomOp*) noexcept {
    return std::size(Kernel::kOutputs);
  }

  static ort::Characteristic ONNX_MEMO_ORT_CALL GetCharacteristic(const ort::CustomOp*, std::size_t) noexcept {
    return ort::Characteristic::kRequired;
  }

  static ort::MemoryType ONNX_MEMO_ORT_CALL GetInputMemoryType(const ort::CustomOp*, std::size_t) noexcept {
    return ort::MemoryType::kDefault;
  }

  static ort::Status* ONNX_MEMO_ORT_CALL CreateKernel(const ort::CustomOp*, const ort::Api* api, const ort::KernelInfo*,
                                                      void** kernel) noexcept {
    return Guarded(api, Kernel::kName, [&] { *kernel = new Instance{api, {}}; });
  }

  static ort::Status* ONNX_MEMO_ORT_CALL Compute(void* kernel, ort::KernelContext* context) noexcept {
    auto* instance = static_cast<Instance*>(kernel);
    return Guarded(instance->api, Kernel::kName,
                   [&] { instance->kernel.Compute(Context(instance->api, context, Kernel::kInputs)); });
  }

  static void ONNX_MEMO_ORT_CALL Destroy(void* kernel) noexcept { delete static_cast<Instance*>(kernel); }
};

}  // namespace onnx_memo
