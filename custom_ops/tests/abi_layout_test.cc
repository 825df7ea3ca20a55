// The layout of ONNX Runtime's structs on 64-bit machines. Compiling this file is the test.
#include <cstddef>
#include <type_traits>

#include "ort/ort_abi.h"

namespace onnx_memo::ort {

static_assert(sizeof(void*) == 8 && sizeof(void (*)()) == 8, "only 64-bit machines are supported");
static_assert(std::is_standard_layout_v<CustomOp> && std::is_trivial_v<CustomOp>);
static_assert(std::is_standard_layout_v<ApiBase> && sizeof(ApiBase) == 16);
static_assert(sizeof(CustomOp) == 208);
static_assert(sizeof(ErrorCode) == 4 && sizeof(ElementType) == 4 && sizeof(Characteristic) == 4);

// The n-th pointer of the struct, after the version and its padding.
constexpr std::size_t Word(std::size_t n) { return 8 * n; }

static_assert(offsetof(CustomOp, version) == 0);
static_assert(offsetof(CustomOp, CreateKernel) == Word(1));
static_assert(offsetof(CustomOp, GetName) == Word(2));
static_assert(offsetof(CustomOp, GetExecutionProviderType) == Word(3));
static_assert(offsetof(CustomOp, GetInputType) == Word(4));
static_assert(offsetof(CustomOp, GetInputTypeCount) == Word(5));
static_assert(offsetof(CustomOp, GetOutputType) == Word(6));
static_assert(offsetof(CustomOp, GetOutputTypeCount) == Word(7));
static_assert(offsetof(CustomOp, KernelCompute) == Word(8));
static_assert(offsetof(CustomOp, KernelDestroy) == Word(9));
static_assert(offsetof(CustomOp, GetInputCharacteristic) == Word(10));
static_assert(offsetof(CustomOp, GetOutputCharacteristic) == Word(11));
static_assert(offsetof(CustomOp, GetInputMemoryType) == Word(12));
static_assert(offsetof(CustomOp, CreateKernelV2) == Word(17));
static_assert(offsetof(CustomOp, KernelComputeV2) == Word(18));
static_assert(offsetof(CustomOp, InferOutputShapeFn) == Word(19));
static_assert(offsetof(CustomOp, GetStartVersion) == Word(20));
static_assert(offsetof(CustomOp, GetMayInplace) == Word(22));
static_assert(offsetof(CustomOp, ReleaseAliasMap) == Word(25));

static_assert(std::is_standard_layout_v<Allocator> && std::is_trivial_v<Allocator> && sizeof(Allocator) == 32);
static_assert(offsetof(Allocator, Alloc) == Word(1) && offsetof(Allocator, Info) == Word(3));

static_assert(CreateStatus::kNumber == 0 && KernelContextParallelFor::kNumber == 274);

}  // namespace onnx_memo::ort
