// MemoRowsAttention: MemoAttention of queries, keys and values side by side.
#include "kernels/memo_rows_attention.h"

#include <vector>

#include "kernels/attention_job.h"

namespace onnx_memo {

void MemoRowsAttention::Compute(const Context& context) const {
  std::vector<std::int64_t> dims;
  const auto qkv = context.Rows<float>(Input::kQkv, &dims);
  const auto heads = context.Input<std::int64_t, 1>(Input::kHeads);
  const Heads fresh = SideBySide(qkv, heads);
  float* const output = context.OutputOf<float>(Output::kContext, ContextDims(dims, fresh, fresh.rows));
  Attend<MemoRowsAttention>(context, fresh, {output, 0, fresh.value_width, fresh.count * fresh.value_width});
}

}  // namespace onnx_memo
