// Attention of the rows that run over stored keys and values, in which theirs are fresh: MemoAttention and
// MemoRowsAttention.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/heads.h"
#include "kernels/ragged.h"
#include "ort/context.h"
#include "ort/view.h"
#include "simd/simd.h"

namespace onnx_memo {

// An entry's n rows hold K[H, dk, n] and V[H, n, dv] in memory order.
struct StoredHeads {
  View<const std::uint16_t, 2> keys;    // [T, H * dk]
  View<const std::uint16_t, 2> values;  // [T, H * dv]
  View<const std::int64_t, 1> offsets;  // first row of each entry
};

// context[h, r] = softmax over the sequence's tokens j of (scale * query[h, r] . K[h, :, j] + bias[b, h, t, j]) . V[h,
// j] with the entry's K and V, in which the columns and rows of the tokens that run are the keys and values of `fresh`.
class AttentionJob {
 public:
  // Each dimension of `bias`[B, H, L, L] may also be 1; `context` has dv neighbouring numbers for each row and head of
  // `fresh`. Throws InvalidArgument when shapes do not fit or an entry cannot be read.
  AttentionJob(const Heads& fresh, const Ragged& ragged, const StoredHeads& stored, float scale,
               View<const float, 4> bias, Strided<float> context);

  std::int64_t work() const { return work_; }
  std::size_t tasks() const;

  // Computes one head of one sequence. Tasks may run at the same time. Throws when memory runs out.
  void Run(std::size_t task) const;

 private:
  void CheckShapes() const;
  void CheckBias() const;
  void Pack(const simd::Level& level, const simd::AttendedHead& attended, const Sequence& sequence, std::int64_t head,
            float* packed) const;
  void FillBias(std::int64_t b, std::int64_t head, std::int64_t token, std::int64_t n, float* bias) const;

  Heads fresh_;
  const Ragged& ragged_;
  StoredHeads stored_;
  float scale_;
  View<const float, 4> bias_;
  Strided<float> context_;
  std::vector<std::int64_t> running_;  // the sequences of which rows run
  std::int64_t work_ = 0;              // multiplications
};

// Computes `output`, the context of `fresh`, for an operator that has inputs for all else that this takes.
template <typename Operator>
void Attend(const Context& context, const Heads& fresh, Strided<float> output) {
  using Input = typename Operator::Input;
  const auto rows = context.Input<std::int64_t, 1>(Input::kRows);
  const auto entry = context.Input<std::int64_t, 1>(Input::kEntry);
  const auto length = context.Input<std::int64_t, 1>(Input::kLength);
  const auto padded_length = context.Single<std::int64_t>(Input::kPaddedLength);
  StoredHeads stored;
  stored.keys = context.Input<std::uint16_t, 2>(Input::kKeys);
  stored.values = context.Input<std::uint16_t, 2>(Input::kValues);
  stored.offsets = context.Input<std::int64_t, 1>(Input::kOffsets);
  const auto scale = context.Single<float>(Input::kScale);
  const auto bias = context.Input<float, 4>(Input::kBias);

  const Ragged ragged(rows, entry, length, padded_length, stored.offsets.dims[0]);
  const AttentionJob job(fresh, ragged, stored, scale, bias, output);
  context.ForEach(job.tasks(), job.work(), [&job](std::size_t task) { job.Run(task); });
}

}  // namespace onnx_memo
