// MemoAttention: attention of the rows that run over stored keys and values, in which theirs are fresh.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/ragged.h"
#include "ort/context.h"
#include "ort/view.h"

namespace onnx_memo {

// Of the rows that run, R of all sequences together.
struct FreshHeads {
  View<const float, 3> query;  // [H, R, dk]
  View<const float, 3> key;    // [H, dk, R]
  View<const float, 3> value;  // [H, R, dv]
};

// An entry's n rows hold K[H, dk, n] and V[H, n, dv] in memory order.
struct StoredHeads {
  View<const std::uint16_t, 2> keys;    // [T, H * dk]
  View<const std::uint16_t, 2> values;  // [T, H * dv]
  View<const std::int64_t, 1> offsets;  // first row of each entry
};

// context[h, r] = softmax over the sequence's tokens j of (scale * query[h, r] . K[h, :, j] + bias[b, h, t, j]) . V[h,
// j] with the entry's K and V, in which the columns and rows of the tokens that run are `key` and `value`.
class AttentionJob {
 public:
  // Each dimension of `bias`[B, H, L, L] may also be 1; `context` is [H, R, dv].
  // Throws InvalidArgument when shapes do not fit or an entry cannot be read.
  AttentionJob(const FreshHeads& fresh, const Ragged& ragged, const StoredHeads& stored, float scale,
               View<const float, 4> bias, View<float, 3> context);

  std::int64_t work() const { return work_; }
  std::size_t tasks() const;

  // Computes one head of one sequence. Tasks may run at the same time. Throws when memory runs out.
  void Run(std::size_t task) const;

 private:
  struct Matrix {
    const float* numbers;
    std::int64_t stride;
  };

  void CheckShapes() const;
  void CheckBias() const;
  Matrix Keys(const Sequence& sequence, std::int64_t head, float* scratch) const;
  Matrix Values(const Sequence& sequence, std::int64_t head, float* scratch) const;
  const std::uint16_t* StoredValues(const Sequence& sequence, std::int64_t head) const;
  const float* Bias(std::int64_t b, std::int64_t head, std::int64_t token) const;

  FreshHeads fresh_;
  const Ragged& ragged_;
  StoredHeads stored_;
  float scale_;
  View<const float, 4> bias_;
  View<float, 3> context_;
  std::vector<std::int64_t> running_;  // the sequences of which rows run
  std::int64_t work_ = 0;              // multiplications
};

class MemoAttention {
 public:
  static constexpr const char* kName = "MemoAttention";
  enum Input : std::size_t {
    kQuery,
    kKey,
    kValue,
    kRows,
    kEntry,
    kLength,
    kPaddedLength,
    kKeys,
    kValues,
    kOffsets,
    kScale,
    kBias
  };
  static constexpr TensorSpec kInputs[] = {
      {"query", ort::ElementType::kFloat},         {"key", ort::ElementType::kFloat},
      {"value", ort::ElementType::kFloat},         {"rows", ort::ElementType::kInt64},
      {"entry", ort::ElementType::kInt64},         {"length", ort::ElementType::kInt64},
      {"padded_length", ort::ElementType::kInt64}, {"keys", ort::ElementType::kFloat16},
      {"values", ort::ElementType::kFloat16},      {"offsets", ort::ElementType::kInt64},
      {"scale", ort::ElementType::kFloat},         {"bias", ort::ElementType::kFloat},
  };
  enum Output : std::size_t { kContext };
  static constexpr TensorSpec kOutputs[] = {
      {"context", ort::ElementType::kFloat},
  };

  void Compute(const Context& context) const;
};

}  // namespace onnx_memo
