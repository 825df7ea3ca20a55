// Attention of rows of one head of one sequence: what MemoSelfAttention does, and the operators over stored tokens.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "simd/simd.h"

namespace onnx_memo {

// At least `count` floats of this thread's, kept from call to call, the first at the beginning of a cache line.
inline float* Scratch(std::size_t count) {
  constexpr std::size_t kLine = 64;
  static thread_local std::vector<float> floats;
  if (floats.size() < count + kLine / sizeof(float)) floats.resize(count + kLine / sizeof(float));
  const auto address = reinterpret_cast<std::uintptr_t>(floats.data());
  return floats.data() + (kLine - address % kLine) / sizeof(float);
}

constexpr std::size_t kScoredRows = 60;  // whose biases are held at a time, where each has its own; whole tiles

// Computes the context of `rows`, whose bias is made here. pack(packed) packs keys and values of `head`, and
// fill_bias(r, bias) writes what is added to the scores of row r: that of all rows, with `same_bias`. Throws when
// memory runs out.
template <typename Pack, typename FillBias>
void AttendRows(const simd::Level& level, const simd::AttendedHead& head, simd::AttendingRows rows, bool same_bias,
                const Pack& pack, const FillBias& fill_bias) {
  const std::size_t whole = simd::WholePanels(head.count);
  const std::size_t all = rows.count;
  const std::size_t size = same_bias ? all : std::min(kScoredRows, all);
  const std::size_t biases = same_bias ? 1 : size;
  float* const packed = Scratch(head.packed() + head.tile() + biases * whole);
  float* const tile = packed + head.packed();
  float* const bias = tile + head.tile();
  pack(packed);
  rows.bias = bias;
  rows.bias_stride = same_bias ? 0 : whole;
  for (std::size_t first = 0; first < all; first += size) {
    rows.count = std::min(size, all - first);
    for (std::size_t i = 0; i < std::min(biases, rows.count); ++i) {
      float* const own = bias + i * whole;
      fill_bias(static_cast<std::int64_t>(first + i), own);
      // Keys that there are not, up to whole panels, count nothing.
      std::fill(own + head.count, own + whole, -std::numeric_limits<float>::infinity());
    }
    level.attend(head, packed, rows, tile);
    rows.query += size * rows.query_stride;
    rows.context += size * rows.context_stride;
  }
}

}  // namespace onnx_memo
