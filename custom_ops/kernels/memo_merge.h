// MemoMerge: puts the final states of the rows that ran between those of the store.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ragged.h"
#include "ort/context.h"
#include "ort/view.h"

namespace onnx_memo {

struct MergeStore {
  View<const float, 2> final;              // [T, d], the entries' states at the encoder's output
  View<const std::uint16_t, 1> influence;  // J[n, n] of each entry
  View<const std::int64_t, 1> offsets;     // first row of each entry in `final`
  View<const std::int64_t, 1> squares;     // first number of each entry in `influence`
};

// A row that ran is its own in `states`; any other is the stored one plus J[t_r, t] * spread[r] of each row r that ran;
// zero after the sequence's tokens.
class MergeJob {
 public:
  // `states` and `spread` are [R, d], `output` is [B, L, d].
  // Throws InvalidArgument when shapes do not fit or an entry cannot be read.
  MergeJob(View<const float, 2> states, View<const float, 2> spread, const Ragged& ragged, const MergeStore& store,
           View<float, 3> output);

  std::int64_t work() const { return work_; }
  std::size_t tasks() const;

  // Writes some rows of one sequence. Tasks may run at the same time.
  void Run(std::size_t task) const noexcept;

 private:
  void CheckShapes() const;
  void AddSpread(const Sequence& sequence, std::int64_t begin, std::int64_t end, float* output) const noexcept;

  View<const float, 2> states_;
  View<const float, 2> spread_;
  const Ragged& ragged_;
  MergeStore store_;
  View<float, 3> output_;
  std::int64_t blocks_;  // blocks of rows that the padded length is cut into
  std::int64_t work_;    // moved elements and multiplications
};

class MemoMerge {
 public:
  static constexpr const char* kName = "MemoMerge";
  enum Input : std::size_t {
    kStates,
    kSpread,
    kRows,
    kEntry,
    kLength,
    kPaddedLength,
    kFinal,
    kInfluence,
    kOffsets,
    kSquares
  };
  static constexpr TensorSpec kInputs[] = {
      {"states", ort::ElementType::kFloat},  {"spread", ort::ElementType::kFloat},
      {"rows", ort::ElementType::kInt64},    {"entry", ort::ElementType::kInt64},
      {"length", ort::ElementType::kInt64},  {"padded_length", ort::ElementType::kInt64},
      {"final", ort::ElementType::kFloat},   {"influence", ort::ElementType::kFloat16},
      {"offsets", ort::ElementType::kInt64}, {"squares", ort::ElementType::kInt64},
  };
  enum Output : std::size_t { kOutput };
  static constexpr TensorSpec kOutputs[] = {
      {"output", ort::ElementType::kFloat},
  };

  void Compute(const Context& context) const;
};

}  // namespace onnx_memo
