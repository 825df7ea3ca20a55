// MemoContext: multiplies stored attention probabilities with the request's own values.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/entries.h"
#include "ort/context.h"
#include "ort/view.h"

namespace onnx_memo {

// context[b, i, h, :] = sum over j < n of P[h, i, j] * values[b, j, h, :] for i < n, where n = lengths[e], e = entry[b]
// and P[H, n, n] are the numbers in the entry's payload rows; zero from row n on and where e is a miss.
class ContextJob {
 public:
  // `values` and `output` are [B, L, H * dv], `payload` is [S, H].
  // Throws InvalidArgument when the shapes do not fit or an entry cannot be read.
  ContextJob(View<const std::int64_t, 1> entry, View<const float, 3> values, View<const std::uint16_t, 2> payload,
             const Entries& entries, View<float, 3> output);

  std::int64_t work() const { return work_; }
  std::size_t tasks() const;

  // Writes some rows of one head of one request. Tasks may run at the same time.
  void Run(std::size_t task) const noexcept;

 private:
  void CheckShapes() const;

  View<const std::int64_t, 1> entry_;
  View<const float, 3> values_;
  View<const std::uint16_t, 2> payload_;
  Entries entries_;
  View<float, 3> output_;
  std::int64_t heads_;
  std::int64_t head_width_ = 0;
  std::int64_t blocks_ = 0;  // blocks of rows that the padded length is cut into
  std::int64_t work_ = 0;    // multiplications
};

class MemoContext {
 public:
  static constexpr const char* kName = "MemoContext";
  enum Input : std::size_t { kEntry, kValues, kPayload, kOffsets, kLengths };
  static constexpr TensorSpec kInputs[] = {
      {"entry", ort::ElementType::kInt64},     {"values", ort::ElementType::kFloat},
      {"payload", ort::ElementType::kFloat16}, {"offsets", ort::ElementType::kInt64},
      {"lengths", ort::ElementType::kInt64},
  };
  enum Output : std::size_t { kContext };
  static constexpr TensorSpec kOutputs[] = {
      {"context", ort::ElementType::kFloat},
  };

  void Compute(const Context& context) const;
};

}  // namespace onnx_memo
