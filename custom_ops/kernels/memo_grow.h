// MemoGrow: lets more rows run from some depth of the encoder on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/ragged.h"
#include "ort/context.h"
#include "ort/view.h"

namespace onnx_memo {

struct GrowStore {
  View<const std::uint16_t, 2> stored;     // the entries' states at this depth
  View<const std::uint16_t, 1> influence;  // J[n, n] of each entry: what a change of token j here does to row t
  View<const std::uint16_t, 1> rollout;    // likewise, which part of a correction reaches row t
  View<const std::int64_t, 1> offsets;     // first row of each entry in `stored`
  View<const std::int64_t, 1> squares;     // first number of each entry in `influence` and `rollout`
};

struct GrowInputs {
  View<const float, 2> states;      // of the rows that run, [R, d]
  View<const float, 2> change;      // [B, L], from MemoRows
  View<const float, 2> predicted;   // [B, L], by the stage before
  View<const float, 2> correction;  // [d, d]
  float bound;                      // predicted change up to which a row does not join
};

struct GrownRows {
  float* states;
  std::int64_t* rows;
  std::int64_t* stored_rows;
};

// Predicts again what the rows that run will do to the others. Those for which that is more than `bound` join, with the
// stored state plus what the changed rows pass on: rollout[j, t] * (states[j] - stored[j]) * correction.
class GrowJob {
 public:
  // `predicted` is written: [B, L]. Throws InvalidArgument when shapes do not fit or an entry cannot be read.
  GrowJob(const GrowInputs& inputs, const Ragged& ragged, const GrowStore& store, View<float, 2> predicted);

  std::size_t tasks() const { return parts_.size(); }
  std::int64_t work() const { return work_; }

  // Predicts for one sequence. Tasks may run at the same time.
  void Run(std::size_t task);

  // To be called once, when all these tasks have ended. Returns how many rows run now.
  std::int64_t Pack();
  std::int64_t write_work() const { return write_work_; }

  // Writes the rows of one sequence. Tasks may run at the same time.
  void Write(std::size_t task, const GrownRows& grown) const;

 private:
  struct Part {
    std::int64_t first = 0;             // number of the sequence's first row among those that run now
    std::vector<std::int64_t> joining;  // its tokens that did not run before
  };

  void CheckShapes() const;
  void CheckEntry(const Sequence& sequence) const;
  void Weigh(const Sequence& sequence, float* weights) const noexcept;
  std::vector<std::int64_t> Joining(const Sequence& sequence, const float* predicted) const;
  std::vector<float> Starts(std::size_t task) const;
  std::vector<std::int64_t> ChangedRows(std::size_t task) const;
  std::vector<float> PassedOn(const Sequence& sequence, const std::vector<std::int64_t>& changed) const;

  const std::uint16_t* Stored(const Sequence& sequence, std::int64_t token) const {
    return store_.stored.data + (store_.offsets.data[sequence.entry] + token) * store_.stored.dims[1];
  }

  GrowInputs inputs_;
  const Ragged& ragged_;
  GrowStore store_;
  View<float, 2> predicted_;
  std::vector<Part> parts_;      // one a sequence
  std::vector<float> weights_;   // [B, L], what the change of each token counts
  std::int64_t work_ = 0;        // multiplications
  std::int64_t write_work_ = 0;  // likewise, and moved elements; at most
};

class MemoGrow {
 public:
  static constexpr const char* kName = "MemoGrow";
  enum Input : std::size_t {
    kStates,
    kRows,
    kChange,
    kPredicted,
    kEntry,
    kLength,
    kStored,
    kInfluence,
    kOffsets,
    kSquares,
    kBound,
    kCorrection,
    kRollout
  };
  static constexpr TensorSpec kInputs[] = {
      {"states", ort::ElementType::kFloat},    {"rows", ort::ElementType::kInt64},
      {"change", ort::ElementType::kFloat},    {"predicted", ort::ElementType::kFloat},
      {"entry", ort::ElementType::kInt64},     {"length", ort::ElementType::kInt64},
      {"stored", ort::ElementType::kFloat16},  {"influence", ort::ElementType::kFloat16},
      {"offsets", ort::ElementType::kInt64},   {"squares", ort::ElementType::kInt64},
      {"bound", ort::ElementType::kFloat},     {"correction", ort::ElementType::kFloat},
      {"rollout", ort::ElementType::kFloat16},
  };
  enum Output : std::size_t { kGrown, kGrownRows, kStoredRows, kPredictedNow };
  static constexpr TensorSpec kOutputs[] = {
      {"grown", ort::ElementType::kFloat},
      {"grown_rows", ort::ElementType::kInt64},
      {"stored_rows", ort::ElementType::kInt64},
      {"predicted_now", ort::ElementType::kFloat},
  };

  void Compute(const Context& context) const;
};

}  // namespace onnx_memo
