// The loops of products in 8 bits, written once over a processor's vectors, as those in simd/kernels.h.
//
// A `Vector` class has `kWidth` (numbers of 32 bits in a register), `kTileRegisters` (of columns that a tile holds for
// each of its rows, a divisor of 48 / kWidth), the types `Register`, `Integers` and `Sums`, and the static functions
// used below.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>  // only index_sequence

#include "simd/activations.h"
#include "simd/integers.h"
#include "simd/prefetch.h"
#include "simd/row_norm.h"

namespace {

using onnx_memo::simd::Ahead;
using onnx_memo::simd::IntegerLevel;
using onnx_memo::simd::kGroup;
using onnx_memo::simd::kMostTileRows;
using onnx_memo::simd::kPanelColumns;
using onnx_memo::simd::Panel;
using onnx_memo::simd::RoundedRows;
using onnx_memo::simd::Rounding;

constexpr float kSteps = 255.0F;
constexpr float kLeastWidth = 3.00926554e-36F;  // 2^-118: 255 divided by it is finite

// The least and the greatest of some numbers, and a number that is NaN if one of them is not finite.
struct Range {
  float low, high, check;
};

// Of several registers at a time: each of the three results waits for the one before.
template <typename Vector>
Range RangeOf(const float* row, std::size_t count) {
  constexpr std::size_t kSums = 4;
  if (count == 0) return {0.0F, 0.0F, 0.0F};
  const auto zero = Vector::Broadcast(0.0F);
  const auto first = Vector::Broadcast(row[0]);
  typename Vector::Register low[kSums], high[kSums], check[kSums];
  for (std::size_t s = 0; s < kSums; ++s) {
    low[s] = high[s] = first;
    check[s] = zero;
  }
  const auto add = [&](std::size_t at, std::size_t s) {
    const auto x = Vector::Load(row + at);
    low[s] = Vector::Least(x, low[s]);
    high[s] = Vector::Greatest(x, high[s]);
    check[s] = Vector::MultiplyAdd(x, zero, check[s]);
  };
  std::size_t i = 0;
  for (; i + kSums * Vector::kWidth <= count; i += kSums * Vector::kWidth) {
    for (std::size_t s = 0; s < kSums; ++s) add(i + s * Vector::kWidth, s);
  }
  for (; i + Vector::kWidth <= count; i += Vector::kWidth) add(i, 0);
  for (std::size_t s = 1; s < kSums; ++s) {
    low[0] = Vector::Least(low[s], low[0]);
    high[0] = Vector::Greatest(high[s], high[0]);
    check[0] = Vector::Add(check[0], check[s]);
  }
  float lows[Vector::kWidth], highs[Vector::kWidth];
  Vector::Store(lows, low[0]);
  Vector::Store(highs, high[0]);
  Range range{row[0], row[0], Vector::Sum(check[0])};
  for (std::size_t lane = 0; lane < Vector::kWidth; ++lane) {
    range.low = lows[lane] < range.low ? lows[lane] : range.low;
    range.high = highs[lane] > range.high ? highs[lane] : range.high;
  }
  for (; i < count; ++i) {
    range.low = row[i] < range.low ? row[i] : range.low;
    range.high = row[i] > range.high ? row[i] : range.high;
    range.check += row[i] * 0.0F;
  }
  return range;
}

// A difference and a product, each of them rounded.
template <typename Vector>
void ToBytes(const float* row, std::size_t count, float low, float inverse, std::uint8_t* bytes) {
  const auto factor = Vector::Broadcast(inverse);
  const auto least = Vector::Broadcast(low);
  std::size_t i = 0;
  for (; i + Vector::kWidth <= count; i += Vector::kWidth) {
    const auto above = Vector::Subtract(Vector::Load(row + i), least);
    Vector::StoreBytes(bytes + i, Vector::Round(Vector::Multiply(above, factor)));
  }
  for (; i < count; ++i) {
    const std::int32_t whole = Vector::RoundOne((row[i] - low) * inverse);
    bytes[i] = static_cast<std::uint8_t>(whole < 0 ? 0 : whole > 255 ? 255 : whole);
  }
}

template <typename Vector>
Rounding RoundRow(const float* row, std::size_t count, std::uint8_t* bytes) {
  const Range range = RangeOf<Vector>(row, count);
  const float difference = range.high - range.low;
  const float broken = range.check + (difference - difference);  // NaN where a number is not finite, else 0
  if (broken != 0.0F) {
    for (std::size_t i = 0; i < count; ++i) bytes[i] = 0;
    return {broken, 0.0F};
  }
  const float width = difference > kLeastWidth ? difference : kLeastWidth;
  ToBytes<Vector>(row, count, range.low, kSteps / width, bytes);
  return {width / kSteps, range.low};
}

// One register of one row, of what was rounded, with the bias.
template <typename Vector>
typename Vector::Register Scaled(const typename Vector::Sums& sums, const Rounding& rounding, const Panel& panel,
                                 std::size_t column) {
  const auto of_weights = Vector::LoadIntegers(panel.sums + column);
  const auto shift = Vector::Multiply(Vector::ToFloats(of_weights), Vector::Broadcast(rounding.low));
  const auto whole = Vector::ToFloats(Vector::Total(sums, of_weights));
  const auto total = Vector::MultiplyAdd(whole, Vector::Broadcast(rounding.scale), shift);
  return Vector::MultiplyAdd(total, Vector::Load(panel.scales + column), Vector::Load(panel.bias + column));
}

// Both, or all three, lines of up to 192 bytes; the same one twice costs nothing.
inline void PrefetchStep(const std::int8_t* begin, std::size_t step) {
  constexpr std::size_t kLine = 64;
  const auto* const bytes = reinterpret_cast<const unsigned char*>(begin);
  PrefetchLine(bytes);
  if (step > kLine) PrefetchLine(bytes + kLine);
  if (step > 2 * kLine) PrefetchLine(bytes + 2 * kLine);
}

// The loops over a tile's registers are written as folds: of sums that loops reach GCC 12 keeps copies in memory.
template <typename Vector, std::size_t... column, std::size_t... tile>
void MultiplyTile(const RoundedRows& a, const Panel& panel, const Ahead& ahead, std::size_t first, float* output,
                  std::size_t stride, std::index_sequence<column...>, std::index_sequence<tile...>) {
  constexpr std::size_t kRegisters = Vector::kTileRegisters;
  constexpr std::size_t kWidth = Vector::kWidth;
  typename Vector::Sums sums[] = {(static_cast<void>(tile), Vector::NoSum())...};
  const std::int8_t* weights = panel.weights + first * kGroup;
  const std::int8_t* next = ahead.begin;
  const std::uint8_t* bytes = a.bytes;
  const std::size_t row_bytes = panel.groups * kGroup;
  for (std::size_t g = 0; g < panel.groups; ++g) {
    PrefetchStep(next, ahead.step);
    const typename Vector::Weights loaded[] = {Vector::LoadWeights(weights + column * kWidth * kGroup)...};
    (Vector::AddDots(Vector::BroadcastFour(bytes + tile / kRegisters * row_bytes), loaded[tile % kRegisters],
                     &sums[tile]),
     ...);
    weights += kPanelColumns * kGroup;
    next += ahead.step;
    bytes += kGroup;
  }
  typename Vector::Register y[] = {
      Scaled<Vector>(sums[tile], a.rounding[tile / kRegisters], panel, first + tile % kRegisters * kWidth)...};
  for (std::size_t c = 0; c < panel.apart_channels; ++c) {
    const float* apart = panel.apart + c * panel.apart_stride + first;
    const typename Vector::Register loaded[] = {Vector::Load(apart + column * kWidth)...};
    ((y[tile] = Vector::MultiplyAdd(Vector::Broadcast(a.apart[tile / kRegisters * panel.apart_channels + c]),
                                    loaded[tile % kRegisters], y[tile])),
     ...);
  }
  (Vector::Store(output + tile / kRegisters * stride + first + tile % kRegisters * kWidth, y[tile]), ...);
}

template <typename Vector, std::size_t rows>
void MultiplyRows(const RoundedRows& a, const Panel& panel, const Ahead& ahead, float* output, std::size_t stride) {
  constexpr std::size_t kColumns = Vector::kTileRegisters * Vector::kWidth;
  static_assert(kPanelColumns % kColumns == 0, "a panel is a whole number of tiles");
  const std::size_t step = ahead.step / (kPanelColumns / kColumns);
  for (std::size_t first = 0; first < kPanelColumns; first += kColumns) {
    const Ahead part = {ahead.begin + first / kColumns * panel.groups * step, step};
    MultiplyTile<Vector>(a, panel, part, first, output, stride, std::make_index_sequence<Vector::kTileRegisters>(),
                         std::make_index_sequence<rows * Vector::kTileRegisters>());
  }
}

template <typename Vector>
void Multiply(const RoundedRows& a, const Panel& panel, const Ahead& ahead, float* output, std::size_t stride) {
  static_assert(kMostTileRows == 6, "there is a tile for each number of rows");
  switch (a.count) {
    case 6:
      MultiplyRows<Vector, 6>(a, panel, ahead, output, stride);
      break;
    case 5:
      MultiplyRows<Vector, 5>(a, panel, ahead, output, stride);
      break;
    case 4:
      MultiplyRows<Vector, 4>(a, panel, ahead, output, stride);
      break;
    case 3:
      MultiplyRows<Vector, 3>(a, panel, ahead, output, stride);
      break;
    case 2:
      MultiplyRows<Vector, 2>(a, panel, ahead, output, stride);
      break;
    case 1:
      MultiplyRows<Vector, 1>(a, panel, ahead, output, stride);
      break;
    default:
      return;
  }
  Activate<Vector>(panel.activation, output, a.count, stride);
}

template <typename Vector>
constexpr IntegerLevel MakeIntegerLevel(const char* name) {
  return {name, &RoundRow<Vector>, &Multiply<Vector>, &NormalizeRow<Vector>};
}

}  // namespace
