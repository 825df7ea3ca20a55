// MemoAttention: attention of the rows that run over stored keys and values, in which theirs are fresh.
#include "kernels/memo_attention.h"

#include "kernels/attention_job.h"

namespace onnx_memo {

void MemoAttention::Compute(const Context& context) const {
  const Heads fresh = Apart(context.Input<float, 3>(Input::kQuery), context.Input<float, 3>(Input::kKey),
                            context.Input<float, 3>(Input::kValue));
  const auto output = context.Output<float, 3>(Output::kContext, {fresh.count, fresh.rows, fresh.value_width});
  Attend<MemoAttention>(context, fresh, {output.data, 0, fresh.rows * fresh.value_width, fresh.value_width});
}

}  // namespace onnx_memo
