// Attention of one head of one sequence: its memory, as the levels of simd/simd.h take it.
//
// A level packs keys and values once for all queries: keys are transposed into panels of neighbouring columns, values
// copied into such panels, so that no two of them fall on the same lines of the cache, as rows of a wide matrix do.
#pragma once

#include <cstddef>
#include <cstdint>

namespace onnx_memo::simd {

constexpr std::size_t kMostPanel = 32;   // columns of a panel, at every level; the scores of that many keys
constexpr std::size_t kMostHeight = 12;  // queries of a tile, at every level

constexpr std::size_t WholePanels(std::size_t columns) { return (columns + kMostPanel - 1) / kMostPanel * kMostPanel; }

// The keys and values that a head's queries attend to; there is at least one, and values have numbers.
struct AttendedHead {
  std::size_t count;
  std::size_t key_width, value_width;
  const float* keys = nullptr;    // [count, key_width]
  const float* values = nullptr;  // [count, value_width]
  std::size_t stride = 0;         // from one row to the next, of both

  // The floats that packing writes.
  std::size_t packed() const { return WholePanels(count) * key_width + count * WholePanels(value_width); }
  // The floats that a tile needs: its queries and their scores.
  std::size_t tile() const { return kMostHeight * (WholePanels(key_width) + WholePanels(count)); }
};

// Keys and values as a store has them, in half precision.
struct StoredHead {
  const std::uint16_t* keys;    // [key_width, count]
  const std::uint16_t* values;  // [count, value_width]
};

// Some queries, and where what they attend to goes.
struct AttendingRows {
  std::size_t count;
  const float* query;  // [count, key_width]
  std::size_t query_stride;
  float scale;        // of the scores
  const float* bias;  // added to them: [count, WholePanels(keys)], -inf for the keys that there are not
  std::size_t bias_stride;
  float* context;  // [count, value_width]
  std::size_t context_stride;
};

}  // namespace onnx_memo::simd
