// MemoSegments: the real length of each row of a mask, and the weights that average its segments.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ort/context.h"
#include "ort/view.h"

namespace onnx_memo {

constexpr std::int64_t kSegments = 8;
constexpr std::int64_t kIrregular = -1;  // the length of a row that is not ones followed by zeros

// The number of ones in `mask`[count] if they come first and all else is zero, else kIrregular.
std::int64_t RealLength(const std::int64_t* mask, std::int64_t count);

// weights[s, t] = 1 / (tokens of segment s) where token t < length lies in segment kSegments * t / length, else 0.
// `weights` is [kSegments, count].
void FillSegmentWeights(std::int64_t length, std::int64_t count, float* weights);

class MemoSegments {
 public:
  static constexpr const char* kName = "MemoSegments";
  enum Input : std::size_t { kMask };
  static constexpr TensorSpec kInputs[] = {
      {"mask", ort::ElementType::kInt64},
  };
  enum Output : std::size_t { kLength, kWeights };
  static constexpr TensorSpec kOutputs[] = {
      {"length", ort::ElementType::kInt64},
      {"weights", ort::ElementType::kFloat},
  };

  void Compute(const Context& context) const;
};

}  // namespace onnx_memo
