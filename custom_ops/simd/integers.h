// Products in 8 bits, in one version for each kind of processor, chosen when the library runs.
//
// The integers are the same on every level. Floats come of the same operations, up to how sums and products are
// rounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace onnx_memo::simd {

constexpr std::size_t kPanelColumns = 48;  // of packed weights, side by side
constexpr std::size_t kGroup = 4;          // neighbouring weights of a column, side by side
constexpr std::size_t kMostTileRows = 6;   // that are multiplied at once

// How a row was rounded: x[i] is about low + scale * bytes[i]. The scale is NaN where an x is not finite, or the
// difference of two is not.
struct Rounding {
  float scale;
  float low;
};

// What may follow a product. Their formulas are in simd/activations.h.
enum class Activation : std::uint8_t { kNone, kRelu, kGelu, kGeluTanh, kSilu };

// Bytes that are brought closer while a tile is multiplied: `step` of them, at most 192, with each group, from `begin`
// on. Those of a tile come one after the other, so that memory has the time of them all.
struct Ahead {
  const std::int8_t* begin;
  std::size_t step;
};

// 48 columns of a product.
struct Panel {
  const std::int8_t* weights;  // [groups, 48, 4]
  std::size_t groups;
  const std::int32_t* sums;  // of each column's weights
  const float* scales;       // of each column
  const float* bias;         // of each column
  const float* apart;        // [channels, ...]: the weights of channels that are not rounded
  std::size_t apart_channels;
  std::size_t apart_stride;  // from one channel to the next
  Activation activation;     // of the result
};

// Some rows of activations.
struct RoundedRows {
  std::size_t count;          // at most kMostTileRows
  const std::uint8_t* bytes;  // [count, 4 * groups]
  const Rounding* rounding;   // [count]
  const float* apart;         // [count, channels]: the activations of channels that are not rounded
};

// What a row is normalized with after a product.
struct NormRow {
  const float* residual;
  const float* gamma;
  const float* beta;
  float epsilon;
};

struct IntegerLevel {
  const char* name;

  // Rounds `count` numbers to bytes, in 255 steps from the least to the greatest.
  Rounding (*round_row)(const float* row, std::size_t count, std::uint8_t* bytes);

  // output[r, c] = the activation of scales[c] * (scale[r] * (the sum of bytes[r, i] * weights[c, i]) + low[r] *
  // sums[c]) + bias[c] + (the product of the channels apart). The rows of `output` are `stride` floats apart. |sum of
  // bytes * weights| is below 2^31. Some levels take the sum of signed bytes from `sums`, which must be true.
  void (*multiply)(const RoundedRows& rows, const Panel& panel, const Ahead& ahead, float* output, std::size_t stride);

  // sum[i] += residual[i]; y[i] = (sum[i] - mean) / sqrt(variance + epsilon) * gamma[i] + beta[i], with the mean of all
  // sums and that of the squares of their differences from it.
  void (*normalize)(const NormRow& row, std::size_t count, float* sum, float* y);
};

// The fastest level that this processor runs.
const IntegerLevel& BestIntegers();

// All levels that this processor runs, slowest first.
std::vector<const IntegerLevel*> SupportedIntegers();

}  // namespace onnx_memo::simd
