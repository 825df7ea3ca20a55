// MemoExact: whether products in 8 bits are to run.
#include "kernels/memo_exact.h"

namespace onnx_memo {

// The products of this library are exact on every processor, so the strictness alone decides.
void MemoExact::Compute(const Context& context) const {
  const auto strictness = context.Single<float>(Input::kStrictness);
  *context.Output<bool, 0>(Output::kExact, {}).data = strictness > 0;
}

}  // namespace onnx_memo
