// MemoSelfAttention: attention of packed sequences, each among its own rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/heads.h"
#include "ort/context.h"
#include "ort/view.h"
#include "simd/simd.h"

namespace onnx_memo {

// The context of row r and head h: softmax over the rows j of r's sequence of (scale * q[r, h] . k[j, h] + bias[b, h,
// t_r, t_j]) times v[j, h], where row r is token t_r = rows[r] % L of sequence b = rows[r] / L, and a row of `qkv`
// holds the queries of all heads, then their keys, then their values. It is made of the rows that ask.
class SelfAttentionJob {
 public:
  struct Inputs {
    View<const float, 2> qkv;            // [R, H * (2 * dk + dv)]
    View<const std::int64_t, 1> heads;   // H, dk, dv
    View<const std::int64_t, 1> rows;    // [R], rising
    View<const std::int64_t, 1> asking;  // [Q], rising, some of `rows`
    std::int64_t padded_length;          // L
    float scale;                         // of the scores
    View<const float, 4> bias;           // [B, H, L, L], each of which may also be 1
  };

  // Throws InvalidArgument when shapes do not fit, or rows do not rise. `level` must outlive the job.
  SelfAttentionJob(const Inputs& inputs, const simd::Level& level);

  // Q and H * dv.
  const std::array<std::int64_t, 2>& shape() const { return shape_; }
  const Heads& heads() const { return heads_; }
  std::int64_t work() const { return work_; }
  std::size_t tasks() const { return Size(static_cast<std::int64_t>(blocks_.size()) * heads_.count); }

  // Computes one head of some rows of one sequence, into `context`[Q, H * dv]. Tasks may run at the same time. Throws
  // when memory runs out.
  void Run(std::size_t task, float* context) const;

 private:
  struct Sequence {
    std::int64_t number;  // b
    std::int64_t first;   // its first row
    std::int64_t count;
  };
  // Neighbouring rows of a sequence that ask: those of a task.
  struct Block {
    Sequence sequence;
    std::int64_t begin, end;  // among the rows of the sequence
    std::int64_t context;     // the first one's
  };

  void CheckBias() const;
  std::vector<Sequence> Sequences() const;
  void AddBlocks(const std::vector<Sequence>& sequences);
  std::int64_t Token(std::int64_t row) const { return inputs_.rows.data[row] % inputs_.padded_length; }
  void FillBias(const Sequence& sequence, std::int64_t head, std::int64_t token, float* bias) const;

  Inputs inputs_;
  const simd::Level& level_;
  Heads heads_;
  std::array<std::int64_t, 2> shape_;
  std::vector<Block> blocks_;
  std::int64_t work_ = 0;  // multiplications
};

class MemoSelfAttention {
 public:
  static constexpr const char* kName = "MemoSelfAttention";
  enum Input : std::size_t { kQkv, kHeads, kRows, kAsking, kPaddedLength, kScale, kBias };
  static constexpr TensorSpec kInputs[] = {
      {"qkv", ort::ElementType::kFloat},           {"heads", ort::ElementType::kInt64},
      {"rows", ort::ElementType::kInt64},          {"asking", ort::ElementType::kInt64},
      {"padded_length", ort::ElementType::kInt64}, {"scale", ort::ElementType::kFloat},
      {"bias", ort::ElementType::kFloat},
  };
  enum Output : std::size_t { kContext };
  static constexpr TensorSpec kOutputs[] = {
      {"context", ort::ElementType::kFloat},
  };

  void Compute(const Context& context) const;
};

}  // namespace onnx_memo
