// MemoRowsAttention: MemoAttention of queries, keys and values side by side.
#include "kernels/memo_rows_attention.h"

#include "kernels/attention_job.h"

namespace onnx_memo {

void MemoRowsAttention::Compute(const Context& context) const {
  const Heads fresh = SideBySide(context.Input<float, 2>(Input::kQkv), context.Input<std::int64_t, 1>(Input::kHeads));
  const std::int64_t width = fresh.count * fresh.value_width;  // less than that of `qkv`
  const auto output = context.Output<float, 2>(Output::kContext, {fresh.rows, width});
  Attend<MemoRowsAttention>(context, fresh, {output.data, 0, fresh.value_width, width});
}

}  // namespace onnx_memo
