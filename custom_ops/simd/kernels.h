// The inner loops, written once over a processor's vectors.
//
// A `Vector` class has `kWidth` (floats in a register), `kTileRows` (height of a product tile: as many rows of two
// registers as the processor holds), a type `Register`, and the static functions used below. Each level includes this
// file with its own compiler flags. Everything has internal linkage, and nothing from the standard library is called
// but memcpy: otherwise the linker could hand code for the newest processor to the oldest.
#pragma once

#include <cmath>  // only HUGE_VALF
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd/attention_kernels.h"
#include "simd/exp_kernels.h"
#include "simd/half.h"
#include "simd/simd.h"

namespace {

template <typename Vector>
void HalvesToFloats(const std::uint16_t* from, float* to, std::size_t count) {
  std::size_t i = 0;
  for (; i + Vector::kWidth <= count; i += Vector::kWidth) Vector::Store(to + i, Vector::LoadHalves(from + i));
  for (; i < count; ++i) to[i] = HalfToFloat(from[i]);
}

// Returns the least distance up to here, lane by lane.
template <typename Vector, std::size_t registers>
typename Vector::Register ColumnDistancesBlock(const float* query, std::size_t width, const float* columns,
                                               std::size_t stride, float* distances, typename Vector::Register least) {
  typename Vector::Register sums[registers];
  for (std::size_t r = 0; r < registers; ++r) sums[r] = Vector::Broadcast(0.0F);
  for (std::size_t i = 0; i < width; ++i) {
    const auto coordinate = Vector::Broadcast(query[i]);
    for (std::size_t r = 0; r < registers; ++r) {
      const auto difference = Vector::Subtract(coordinate, Vector::Load(columns + i * stride + r * Vector::kWidth));
      sums[r] = Vector::MultiplyAdd(difference, difference, sums[r]);
    }
  }
  for (std::size_t r = 0; r < registers; ++r) {
    Vector::Store(distances + r * Vector::kWidth, sums[r]);
    least = Vector::Least(sums[r], least);
  }
  return least;
}

inline float ColumnDistance(const float* query, std::size_t width, const float* column, std::size_t stride) {
  float sum = 0;
  for (std::size_t i = 0; i < width; ++i) {
    const float difference = query[i] - column[i * stride];
    sum += difference * difference;
  }
  return sum;
}

template <typename Vector>
float ColumnDistances(const float* query, std::size_t width, const float* columns, std::size_t stride,
                      std::size_t count, float* distances) {
  constexpr std::size_t kRegisters = 8;
  auto lanes = Vector::Broadcast(HUGE_VALF);
  std::size_t j = 0;
  for (; j + kRegisters * Vector::kWidth <= count; j += kRegisters * Vector::kWidth) {
    lanes = ColumnDistancesBlock<Vector, kRegisters>(query, width, columns + j, stride, distances + j, lanes);
  }
  for (; j + Vector::kWidth <= count; j += Vector::kWidth) {
    lanes = ColumnDistancesBlock<Vector, 1>(query, width, columns + j, stride, distances + j, lanes);
  }
  float candidates[Vector::kWidth];
  Vector::Store(candidates, lanes);
  float least = candidates[0];
  for (std::size_t i = 1; i < Vector::kWidth; ++i) least = candidates[i] < least ? candidates[i] : least;
  for (; j < count; ++j) {
    distances[j] = ColumnDistance(query, width, columns + j, stride);
    least = distances[j] < least ? distances[j] : least;
  }
  return least;
}

inline float ReadFloat(const unsigned char* bytes) {
  float value = 0;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

// Adds up one term a coordinate of `query` and the floats at `bytes`, in four independent sums.
template <typename Vector, typename VectorTerm, typename ScalarTerm>
float SumTerms(const float* query, const unsigned char* bytes, std::size_t count, VectorTerm vector_term,
               ScalarTerm scalar_term) {
  constexpr std::size_t kSums = 4;
  typename Vector::Register sums[kSums];
  for (std::size_t s = 0; s < kSums; ++s) sums[s] = Vector::Broadcast(0.0F);
  std::size_t i = 0;
  for (; i + kSums * Vector::kWidth <= count; i += kSums * Vector::kWidth) {
    for (std::size_t s = 0; s < kSums; ++s) {
      const std::size_t at = i + s * Vector::kWidth;
      sums[s] = vector_term(Vector::Load(query + at), Vector::LoadBytes(bytes + at * sizeof(float)), sums[s]);
    }
  }
  for (; i + Vector::kWidth <= count; i += Vector::kWidth) {
    sums[0] = vector_term(Vector::Load(query + i), Vector::LoadBytes(bytes + i * sizeof(float)), sums[0]);
  }
  float sum = Vector::Sum(Vector::Add(Vector::Add(sums[0], sums[1]), Vector::Add(sums[2], sums[3])));
  for (; i < count; ++i) sum += scalar_term(query[i], ReadFloat(bytes + i * sizeof(float)));
  return sum;
}

template <typename Vector>
float Distance(const float* query, const unsigned char* bytes, std::size_t count) {
  using Register = typename Vector::Register;
  return SumTerms<Vector>(
      query, bytes, count,
      [](Register a, Register b, Register sum) {
        const Register difference = Vector::Subtract(a, b);
        return Vector::MultiplyAdd(difference, difference, sum);
      },
      [](float a, float b) { return (a - b) * (a - b); });
}

template <typename Vector>
float InnerProduct(const float* query, const unsigned char* bytes, std::size_t count) {
  using Register = typename Vector::Register;
  return SumTerms<Vector>(
      query, bytes, count, [](Register a, Register b, Register sum) { return Vector::MultiplyAdd(a, b, sum); },
      [](float a, float b) { return a * b; });
}

// The product works on blocks of `b` that stay in the first-level cache: kDepth rows of kColumns columns, rearranged
// into panels two registers wide (the last one padded with zeros), against which tiles of `a` are converted once and
// multiplied.
constexpr std::size_t kDepth = 128;
constexpr std::size_t kColumns = 64;

constexpr std::size_t Least(std::size_t a, std::size_t b) { return a < b ? a : b; }

// output[rows, two registers] += a[rows, depth] * panel[depth, two registers].
template <typename Vector, std::size_t rows>
void AddTile(const float (*a)[kDepth], std::size_t depth, const float* panel, float* output, std::size_t stride) {
  constexpr std::size_t kWidth = Vector::kWidth;
  typename Vector::Register sums[rows][2];
  for (std::size_t r = 0; r < rows; ++r) {
    sums[r][0] = Vector::Load(output + r * stride);
    sums[r][1] = Vector::Load(output + r * stride + kWidth);
  }
  for (std::size_t j = 0; j < depth; ++j) {
    const auto left = Vector::Load(panel + j * 2 * kWidth);
    const auto right = Vector::Load(panel + j * 2 * kWidth + kWidth);
    for (std::size_t r = 0; r < rows; ++r) {
      const auto factor = Vector::Broadcast(a[r][j]);
      sums[r][0] = Vector::MultiplyAdd(factor, left, sums[r][0]);
      sums[r][1] = Vector::MultiplyAdd(factor, right, sums[r][1]);
    }
  }
  for (std::size_t r = 0; r < rows; ++r) {
    Vector::Store(output + r * stride, sums[r][0]);
    Vector::Store(output + r * stride + kWidth, sums[r][1]);
  }
}

// As AddTile, where the output is narrower than the panel.
template <typename Vector, std::size_t rows>
void AddNarrowTile(const float (*a)[kDepth], std::size_t depth, const float* panel, float* output, std::size_t stride,
                   std::size_t columns) {
  constexpr std::size_t kPanel = 2 * Vector::kWidth;
  float wide[rows * kPanel] = {};
  for (std::size_t r = 0; r < rows; ++r) std::memcpy(wide + r * kPanel, output + r * stride, columns * sizeof(float));
  AddTile<Vector, rows>(a, depth, panel, wide, kPanel);
  for (std::size_t r = 0; r < rows; ++r) std::memcpy(output + r * stride, wide + r * kPanel, columns * sizeof(float));
}

// A block of `b` in panels.
template <typename Vector>
struct Panels {
  static constexpr std::size_t kWidth = 2 * Vector::kWidth;

  std::size_t depth;
  std::size_t columns;  // at most kColumns
  alignas(64) float numbers[kDepth * kColumns];

  void Fill(const float* b, std::size_t stride) {
    std::size_t c = 0;
    for (; c + kWidth <= columns; c += kWidth) {
      float* panel = numbers + c * depth;
      for (std::size_t j = 0; j < depth; ++j) {
        const float* from = b + j * stride + c;
        Vector::Store(panel + j * kWidth, Vector::Load(from));
        Vector::Store(panel + j * kWidth + Vector::kWidth, Vector::Load(from + Vector::kWidth));
      }
    }
    if (c == columns) return;
    float* panel = numbers + c * depth;
    for (std::size_t j = 0; j < depth; ++j) {
      std::memcpy(panel + j * kWidth, b + j * stride + c, (columns - c) * sizeof(float));
      for (std::size_t i = columns - c; i < kWidth; ++i) panel[j * kWidth + i] = 0.0F;
    }
  }
};

template <typename Vector>
void ToFloats(const std::uint16_t* from, float* to, std::size_t count) {
  HalvesToFloats<Vector>(from, to, count);
}
template <typename Vector>
void ToFloats(const float* from, float* to, std::size_t count) {
  std::memcpy(to, from, count * sizeof(float));
}

// `a` is of halves or floats from here on.
template <typename Vector, std::size_t rows, typename Number>
void AddRows(const Number* a, std::size_t a_stride, const Panels<Vector>& b, float* output, std::size_t stride) {
  constexpr std::size_t kWidth = Panels<Vector>::kWidth;
  alignas(64) float tile[rows][kDepth];
  for (std::size_t r = 0; r < rows; ++r) ToFloats<Vector>(a + r * a_stride, tile[r], b.depth);
  std::size_t c = 0;
  for (; c + kWidth <= b.columns; c += kWidth) {
    AddTile<Vector, rows>(tile, b.depth, b.numbers + c * b.depth, output + c, stride);
  }
  if (c < b.columns) {
    AddNarrowTile<Vector, rows>(tile, b.depth, b.numbers + c * b.depth, output + c, stride, b.columns - c);
  }
}

template <typename Vector, typename Number>
void AddBlock(const Number* a, std::size_t rows, std::size_t a_stride, const Panels<Vector>& b, float* output,
              std::size_t stride) {
  constexpr std::size_t kTall = Vector::kTileRows;
  constexpr std::size_t kMedium = kTall * 2 / 3;
  constexpr std::size_t kShort = kTall / 3;
  std::size_t r = 0;
  for (; r + kTall <= rows; r += kTall)
    AddRows<Vector, kTall>(a + r * a_stride, a_stride, b, output + r * stride, stride);
  for (; r + kMedium <= rows; r += kMedium) {
    AddRows<Vector, kMedium>(a + r * a_stride, a_stride, b, output + r * stride, stride);
  }
  for (; r + kShort <= rows; r += kShort) {
    AddRows<Vector, kShort>(a + r * a_stride, a_stride, b, output + r * stride, stride);
  }
  for (; r < rows; ++r) AddRows<Vector, 1>(a + r * a_stride, a_stride, b, output + r * stride, stride);
}

template <typename Vector, typename Number>
void AddStridedProduct(const Number* a, std::size_t rows, std::size_t depth, std::size_t a_stride, const float* b,
                       std::size_t b_stride, std::size_t columns, float* output, std::size_t output_stride) {
  if (rows == 0) return;  // `output` may be null
  Panels<Vector> panels;
  for (std::size_t j = 0; j < depth; j += kDepth) {
    for (std::size_t c = 0; c < columns; c += kColumns) {
      panels.depth = Least(kDepth, depth - j);
      panels.columns = Least(kColumns, columns - c);
      panels.Fill(b + j * b_stride + c, b_stride);
      AddBlock(a + j, rows, a_stride, panels, output + c, output_stride);
    }
  }
}

template <typename Vector>
void AddHalfProduct(const std::uint16_t* a, std::size_t rows, std::size_t depth, const float* b, std::size_t b_stride,
                    std::size_t columns, float* output, std::size_t output_stride) {
  AddStridedProduct<Vector>(a, rows, depth, depth, b, b_stride, columns, output, output_stride);
}

template <typename Vector>
onnx_memo::simd::Compared Compare(const float* a, const std::uint16_t* b, std::size_t count) {
  constexpr std::size_t kSums = 4;
  typename Vector::Register differences[kSums];
  typename Vector::Register norms[kSums];
  for (std::size_t s = 0; s < kSums; ++s) differences[s] = norms[s] = Vector::Broadcast(0.0F);
  const auto add = [&](std::size_t at, std::size_t s) {
    const auto subtracted = Vector::LoadHalves(b + at);
    const auto difference = Vector::Subtract(Vector::Load(a + at), subtracted);
    differences[s] = Vector::MultiplyAdd(difference, difference, differences[s]);
    norms[s] = Vector::MultiplyAdd(subtracted, subtracted, norms[s]);
  };
  const auto total = [](const typename Vector::Register(&sums)[kSums]) {
    return Vector::Sum(Vector::Add(Vector::Add(sums[0], sums[1]), Vector::Add(sums[2], sums[3])));
  };
  std::size_t i = 0;
  for (; i + kSums * Vector::kWidth <= count; i += kSums * Vector::kWidth) {
    for (std::size_t s = 0; s < kSums; ++s) add(i + s * Vector::kWidth, s);
  }
  for (; i + Vector::kWidth <= count; i += Vector::kWidth) add(i, 0);
  onnx_memo::simd::Compared result{total(differences), total(norms)};
  for (; i < count; ++i) {
    const float subtracted = HalfToFloat(b[i]);
    result.difference += (a[i] - subtracted) * (a[i] - subtracted);
    result.norm += subtracted * subtracted;
  }
  return result;
}

template <typename Vector>
void AddScaledHalves(float factor, const std::uint16_t* from, float* to, std::size_t count) {
  const auto factors = Vector::Broadcast(factor);
  std::size_t i = 0;
  for (; i + Vector::kWidth <= count; i += Vector::kWidth) {
    Vector::Store(to + i, Vector::MultiplyAdd(factors, Vector::LoadHalves(from + i), Vector::Load(to + i)));
  }
  for (; i < count; ++i) to[i] += factor * HalfToFloat(from[i]);
}

template <typename Vector>
constexpr onnx_memo::simd::Level MakeLevel(const char* name) {
  return {name,
          &HalvesToFloats<Vector>,
          &ColumnDistances<Vector>,
          &Distance<Vector>,
          &InnerProduct<Vector>,
          &AddHalfProduct<Vector>,
          &AddStridedProduct<Vector, float>,
          &Compare<Vector>,
          &AddScaledHalves<Vector>,
          &PackHead<Vector>,
          &PackStored<Vector>,
          &RepackToken<Vector>,
          &Attend<Vector>};
}

}  // namespace
