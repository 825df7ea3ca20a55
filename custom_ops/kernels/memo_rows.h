// MemoRows: chooses the rows of a request that have to run when all others come from the store.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ort/context.h"
#include "ort/view.h"

namespace onnx_memo {

struct RowsStore {
  View<const std::uint16_t, 2> stored;     // the entries' states at the encoder's input
  View<const std::uint16_t, 1> influence;  // J[n, n] of each entry: what a change of token j does to row t
  View<const std::int64_t, 1> offsets;     // first row of each entry in `stored`
  View<const std::int64_t, 1> squares;     // first number of each entry in `influence`
};

struct RowsLimits {
  float epsilon;  // relative change up to which a row counts as unchanged
  float bound;    // predicted relative change up to which a row does not run; negative or NaN: never a hit
  float limit;    // share of a sequence's tokens that may run
};

// Of each sequence that has an entry run the changed rows and those for which they predict a change of more than
// `bound`, if these are few enough: then it hits, whatever the others of its batch do.
class RowsJob {
 public:
  // `states` is [B, L, d]. Throws InvalidArgument when shapes do not fit or an entry cannot be read.
  RowsJob(View<const float, 3> states, View<const std::int64_t, 1> entry, View<const std::int64_t, 1> length,
          const RowsStore& store, const RowsLimits& limits);

  std::int64_t work() const { return work_; }
  std::size_t tasks() const { return sequences_.size(); }

  // Chooses the rows of one sequence. Tasks may run at the same time.
  void Run(std::size_t task) noexcept;

  // To be called when all tasks have ended.
  bool all_hit() const;
  std::int64_t count() const;  // rows that run

  // Writes count() rows, whether each of B sequences hits, and the change and the predicted change of all tokens,
  // [B, L] both: 0 where a sequence does not.
  void Write(std::int64_t* rows, std::int64_t* stored_rows, bool* hit, View<float, 2> change,
             View<float, 2> predicted) const;

 private:
  struct Sequence {
    std::int64_t batch;
    std::int64_t first;  // number of its first token among those of all sequences that may hit
    double most;         // rows that may run
    std::int64_t running = 0;
    bool hit = false;
  };

  void CheckShapes() const;
  void CheckEntry(std::int64_t b) const;
  bool Measure(Sequence* sequence) noexcept;
  void Predict(const Sequence& sequence) noexcept;
  bool Choose(Sequence* sequence) noexcept;

  const std::uint16_t* Influence(std::int64_t b, std::int64_t j) const {
    return store_.influence.data + store_.squares.data[entry_.data[b]] + j * length_.data[b];
  }

  View<const float, 3> states_;
  View<const std::int64_t, 1> entry_;
  View<const std::int64_t, 1> length_;
  RowsStore store_;
  RowsLimits limits_;
  std::int64_t work_ = 0;
  std::vector<Sequence> sequences_;  // those that may hit

  // One element a token of these.
  std::vector<std::uint8_t> runs_;
  std::vector<float> changes_;
  std::vector<float> predicted_;
};

class MemoRows {
 public:
  static constexpr const char* kName = "MemoRows";
  enum Input : std::size_t {
    kStates,
    kEntry,
    kLength,
    kStored,
    kInfluence,
    kOffsets,
    kSquares,
    kEpsilon,
    kBound,
    kLimit
  };
  static constexpr TensorSpec kInputs[] = {
      {"states", ort::ElementType::kFloat},      {"entry", ort::ElementType::kInt64},
      {"length", ort::ElementType::kInt64},      {"stored", ort::ElementType::kFloat16},
      {"influence", ort::ElementType::kFloat16}, {"offsets", ort::ElementType::kInt64},
      {"squares", ort::ElementType::kInt64},     {"epsilon", ort::ElementType::kFloat},
      {"bound", ort::ElementType::kFloat},       {"limit", ort::ElementType::kFloat},
  };
  enum Output : std::size_t { kRows, kStoredRows, kHit, kAllHit, kChange, kPredicted };
  static constexpr TensorSpec kOutputs[] = {
      {"rows", ort::ElementType::kInt64},   {"stored_rows", ort::ElementType::kInt64},
      {"hit", ort::ElementType::kBool},     {"all_hit", ort::ElementType::kBool},
      {"change", ort::ElementType::kFloat}, {"predicted", ort::ElementType::kFloat},
  };

  void Compute(const Context& context) const;
};

}  // namespace onnx_memo
