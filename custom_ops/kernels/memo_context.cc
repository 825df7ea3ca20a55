// MemoContext: multiplies stored attention probabilities with the request's own values.
#include "kernels/memo_context.h"

#include <algorithm>
#include <limits>

#include "simd/simd.h"

namespace onnx_memo {
namespace {

// Rows of one head that a task computes: enough to repay rearranging the head's values, and a multiple of the tile
// heights in simd/.
constexpr std::int64_t kRows = 132;

}  // namespace

ContextJob::ContextJob(View<const std::int64_t, 1> entry, View<const float, 3> values,
                       View<const std::uint16_t, 2> payload, const Entries& entries, View<float, 3> output)
    : entry_(entry), values_(values), payload_(payload), entries_(entries), output_(output), heads_(payload.dims[1]) {
  CheckShapes();
  head_width_ = values_.dims[2] / heads_;
  blocks_ = values_.dims[1] / kRows + (values_.dims[1] % kRows != 0);
  double work = 0;
  for (std::int64_t b = 0; b < entry_.dims[0]; ++b) {
    const std::int64_t e = entry_.data[b];
    entries_.CheckReadable(e, values_.dims[1], /*square=*/true);
    const double tokens = e == kMiss ? 1.0 : static_cast<double>(entries_.length(e));
    work += tokens * tokens * static_cast<double>(values_.dims[2]);
  }
  work_ = static_cast<std::int64_t>(std::min(work, 1e18));  // only compared with a threshold
}

void ContextJob::CheckShapes() const {
  entries_.CheckShapes();
  if (heads_ == 0) Refuse("'payload' has no heads; its shape must be [rows, heads]");
  if (values_.dims[2] % heads_ != 0) {
    Refuse("'values' is ", values_.dims[2], " wide, which ", heads_,
           " heads do not divide; the payload was stored for another model");
  }
  if (values_.dims[0] != entry_.dims[0]) {
    Refuse("'entry' holds ", entry_.dims[0], " rows and 'values' ", values_.dims[0], "; give one entry a row");
  }
}

std::size_t ContextJob::tasks() const {
  return head_width_ == 0 ? 0 : Size(Product(Product(entry_.dims[0], heads_), blocks_));
}

void ContextJob::Run(std::size_t task) const noexcept {
  const std::int64_t number = static_cast<std::int64_t>(task);
  const std::int64_t block = number % blocks_;
  const std::int64_t head = number / blocks_ % heads_;
  const std::int64_t batch = number / blocks_ / heads_;
  const std::int64_t padded_length = values_.dims[1];
  const std::int64_t stride = values_.dims[2];
  const std::int64_t begin = block * kRows;
  const std::int64_t end = std::min(begin + kRows, padded_length);

  const std::int64_t corner = batch * padded_length * stride + head * head_width_;
  float* output = output_.data + corner + begin * stride;
  for (std::int64_t i = 0; i < end - begin; ++i) std::fill_n(output + i * stride, head_width_, 0.0F);

  const std::int64_t entry = entry_.data[batch];
  const std::int64_t tokens = entry == kMiss ? 0 : entries_.length(entry);
  if (tokens <= begin) return;
  const std::uint16_t* probabilities =
      payload_.data + entries_.offset(entry) * heads_ + (head * tokens + begin) * tokens;
  simd::Best().add_half_product(probabilities, Size(std::min(end, tokens) - begin), Size(tokens), values_.data + corner,
                                Size(stride), Size(head_width_), output, Size(stride));
}

void MemoContext::Compute(const Context& context) const {
  const auto entry = context.Input<std::int64_t, 1>(Input::kEntry);
  const auto values = context.Input<float, 3>(Input::kValues);
  const auto payload = context.Input<std::uint16_t, 2>(Input::kPayload);
  const auto offsets = context.Input<std::int64_t, 1>(Input::kOffsets);
  const auto lengths = context.Input<std::int64_t, 1>(Input::kLengths);

  const auto output = context.Output<float, 3>(Output::kContext, values.dims);
  const ContextJob job(entry, values, payload, {offsets, lengths, payload.dims[0]}, output);
  context.ForEach(job.tasks(), job.work(), [&](std::size_t task) { job.Run(task); });
}

}  // namespace onnx_memo
