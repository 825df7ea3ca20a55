// The part of ONNX Runtime's C interface that this library uses, written down from the interface's numbers.
//
// Rules that hold here:
// - The interface is append-only: a function keeps its slot, a struct keeps the order of its members.
// - Only slots up to API version 17 are used, and `CustomOp::version` says 17: any later release accepts that.
// - Every type is opaque except `ApiBase` and `CustomOp`; tests/abi_layout_test.cc checks their layout.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef _WIN32
#define ONNX_MEMO_ORT_CALL __stdcall
#else
#define ONNX_MEMO_ORT_CALL
#endif

namespace onnx_memo::ort {

struct Api;
struct CustomOpDomain;
struct Environment;
struct KernelContext;
struct KernelInfo;
struct MemoryInfo;
struct SessionOptions;
struct ShapeInferContext;
struct Status;
struct TensorInfo;
struct Value;

constexpr std::uint32_t kApiVersion = 17;

enum class ErrorCode : std::int32_t { kFail = 1, kInvalidArgument = 2 };
enum class ElementType : std::int32_t {
  kUndefined = 0,
  kFloat = 1,
  kUint8 = 2,
  kInt8 = 3,
  kInt32 = 6,
  kInt64 = 7,
  kBool = 9,
  kFloat16 = 10
};
enum class Characteristic : std::int32_t { kRequired = 0 };
enum class LogLevel : std::int32_t { kError = 3 };
enum class AllocatorType : std::int32_t { kDevice = 0 };
enum class MemoryType : std::int32_t { kDefault = 0 };

struct ApiBase {
  const Api*(ONNX_MEMO_ORT_CALL* GetApi)(std::uint32_t version);
  const char*(ONNX_MEMO_ORT_CALL* GetVersionString)();
};

// One function of `Api`, which is a bare table of function pointers.
template <std::size_t number, typename Result, typename... Arguments>
struct Slot {
  static constexpr std::size_t kNumber = number;
  using Function = Result(ONNX_MEMO_ORT_CALL*)(Arguments...);

  static Result Call(const Api* api, Arguments... arguments) {
    using Untyped = void (*)();
    const Untyped function = reinterpret_cast<const Untyped*>(api)[number];
    return reinterpret_cast<Function>(function)(arguments...);
  }
};

// What the host asks of an allocator, at version 17.
struct Allocator {
  std::uint32_t version;
  void*(ONNX_MEMO_ORT_CALL* Alloc)(Allocator*, std::size_t);
  void(ONNX_MEMO_ORT_CALL* Free)(Allocator*, void*);
  const MemoryInfo*(ONNX_MEMO_ORT_CALL* Info)(const Allocator*);
};

using Task = void (*)(void* user_data, std::size_t index);

// A null status is success; any other belongs to the receiver.
using CreateStatus = Slot<0, Status*, ErrorCode, const char*>;
using CreateEnvironment = Slot<3, Status*, LogLevel, const char*, Environment**>;
using CreateCustomOpDomain = Slot<26, Status*, const char*, CustomOpDomain**>;
using CustomOpDomainAdd = Slot<27, Status*, CustomOpDomain*, const struct CustomOp*>;
using AddCustomOpDomain = Slot<28, Status*, SessionOptions*, CustomOpDomain*>;
using GetTensorMutableData = Slot<51, Status*, Value*, void**>;
using GetTensorElementType = Slot<60, Status*, const TensorInfo*, ElementType*>;
using GetDimensionsCount = Slot<61, Status*, const TensorInfo*, std::size_t*>;
using GetDimensions = Slot<62, Status*, const TensorInfo*, std::int64_t*, std::size_t>;
using GetTensorTypeAndShape = Slot<65, Status*, const Value*, TensorInfo**>;
using CreateMemoryInfo = Slot<68, Status*, const char*, AllocatorType, int, MemoryType, MemoryInfo**>;
using KernelContextGetInput = Slot<90, Status*, const KernelContext*, std::size_t, const Value**>;
using KernelContextGetOutput =
    Slot<91, Status*, KernelContext*, std::size_t, const std::int64_t*, std::size_t, Value**>;
using ReleaseStatus = Slot<93, void, Status*>;
using ReleaseTensorInfo = Slot<99, void, TensorInfo*>;
using ReleaseCustomOpDomain = Slot<101, void, CustomOpDomain*>;
using RegisterAllocator = Slot<176, Status*, Environment*, Allocator*>;
using KernelContextParallelFor = Slot<274, Status*, const KernelContext*, Task, std::size_t, std::size_t, void*>;

// What the host asks of an operator. Members that stay null are optional at version 17.
struct CustomOp {
  std::uint32_t version;
  void*(ONNX_MEMO_ORT_CALL* CreateKernel)(const CustomOp*, const Api*, const KernelInfo*);
  const char*(ONNX_MEMO_ORT_CALL* GetName)(const CustomOp*);
  const char*(ONNX_MEMO_ORT_CALL* GetExecutionProviderType)(const CustomOp*);
  ElementType(ONNX_MEMO_ORT_CALL* GetInputType)(const CustomOp*, std::size_t);
  std::size_t(ONNX_MEMO_ORT_CALL* GetInputTypeCount)(const CustomOp*);
  ElementType(ONNX_MEMO_ORT_CALL* GetOutputType)(const CustomOp*, std::size_t);
  std::size_t(ONNX_MEMO_ORT_CALL* GetOutputTypeCount)(const CustomOp*);
  void(ONNX_MEMO_ORT_CALL* KernelCompute)(void*, KernelContext*);
  void(ONNX_MEMO_ORT_CALL* KernelDestroy)(void*);
  Characteristic(ONNX_MEMO_ORT_CALL* GetInputCharacteristic)(const CustomOp*, std::size_t);
  Characteristic(ONNX_MEMO_ORT_CALL* GetOutputCharacteristic)(const CustomOp*, std::size_t);
  MemoryType(ONNX_MEMO_ORT_CALL* GetInputMemoryType)(const CustomOp*, std::size_t);
  int(ONNX_MEMO_ORT_CALL* GetVariadicInputMinArity)(const CustomOp*);
  int(ONNX_MEMO_ORT_CALL* GetVariadicInputHomogeneity)(const CustomOp*);
  int(ONNX_MEMO_ORT_CALL* GetVariadicOutputMinArity)(const CustomOp*);
  int(ONNX_MEMO_ORT_CALL* GetVariadicOutputHomogeneity)(const CustomOp*);
  Status*(ONNX_MEMO_ORT_CALL* CreateKernelV2)(const CustomOp*, const Api*, const KernelInfo*, void**);
  Status*(ONNX_MEMO_ORT_CALL* KernelComputeV2)(void*, KernelContext*);
  Status*(ONNX_MEMO_ORT_CALL* InferOutputShapeFn)(const CustomOp*, ShapeInferContext*);
  int(ONNX_MEMO_ORT_CALL* GetStartVersion)(const CustomOp*);
  int(ONNX_MEMO_ORT_CALL* GetEndVersion)(const CustomOp*);
  std::size_t(ONNX_MEMO_ORT_CALL* GetMayInplace)(int**, int**);
  void(ONNX_MEMO_ORT_CALL* ReleaseMayInplace)(int*, int*);
  std::size_t(ONNX_MEMO_ORT_CALL* GetAliasMap)(int**, int**);
  void(ONNX_MEMO_ORT_CALL* ReleaseAliasMap)(int*, int*);
};

}  // namespace onnx_memo::ort
