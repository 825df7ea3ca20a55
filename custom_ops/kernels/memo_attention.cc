// MemoAttention: attention of the rows that run over stored keys and values, in which theirs are fresh.
#include "kernels/memo_attention.h"

#include "kernels/attention_job.h"

namespace onnx_memo {

void MemoAttention::Compute(const Context& context) const {
  const auto query = context.Input<float, 3>(Input::kQuery);
  const auto key = context.Input<float, 3>(Input::kKey);
  const auto value = context.Input<float, 3>(Input::kValue);
  const Heads fresh = Apart(query, key, value);
  const auto output = context.Output<float, 3>(Output::kContext, value.dims);
  Attend<MemoAttention>(context, fresh, {output.data, 0, fresh.rows * fresh.value_width, fresh.value_width});
}

}  // namespace onnx_memo
