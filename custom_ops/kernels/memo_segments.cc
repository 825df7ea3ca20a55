// MemoSegments: the real length of each row of a mask, and the weights that average its segments.
#include "kernels/memo_segments.h"

#include <algorithm>

namespace onnx_memo {

std::int64_t RealLength(const std::int64_t* mask, std::int64_t count) {
  const std::int64_t* const end = mask + count;
  const std::int64_t* const padding = std::find_if(mask, end, [](std::int64_t m) { return m != 1; });
  const bool regular = std::all_of(padding, end, [](std::int64_t m) { return m == 0; });
  return regular ? padding - mask : kIrregular;
}

void FillSegmentWeights(std::int64_t length, std::int64_t count, float* weights) {
  std::fill_n(weights, kSegments * count, 0.0F);
  for (std::int64_t s = 0; s < kSegments; ++s) {
    // The first token of segment s is the smallest t with kSegments * t >= s * length.
    const std::int64_t begin = (s * length + kSegments - 1) / kSegments;
    const std::int64_t end = ((s + 1) * length + kSegments - 1) / kSegments;
    if (begin < end) std::fill(weights + begin, weights + end, 1.0F / static_cast<float>(end - begin));
    weights += count;
  }
}

void MemoSegments::Compute(const Context& context) const {
  const auto mask = context.Input<std::int64_t, 2>(Input::kMask);
  const auto [batch, count] = mask.dims;
  const auto length = context.Output<std::int64_t, 1>(Output::kLength, {batch});
  const auto weights = context.Output<float, 3>(Output::kWeights, {batch, kSegments, count});
  for (std::int64_t b = 0; b < batch; ++b) {
    length.data[b] = RealLength(mask.data + b * count, count);
    FillSegmentWeights(std::max(length.data[b], std::int64_t{0}), count, weights.data + b * kSegments * count);
  }
}

}  // namespace onnx_memo
