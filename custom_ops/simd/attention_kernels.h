// Attention of one head, written once over a processor's vectors: see simd/kernels.h, which includes this file.
//
// A tile of queries stays in registers while it meets a panel of keys or values, two registers wide. What is the left
// side of a product, queries and scores, lies in blocks that are as wide as a panel, with all rows of the tile in each:
// so its strides are known to the compiler. Every number is summed in the same order, however high the tile is.
#pragma once

#include <cmath>  // only HUGE_VALF
#include <cstddef>
#include <cstring>

#include "simd/attention.h"
#include "simd/softmax_kernels.h"

namespace {

// Calls finish(row, register, sums of a[height, depth] * b[depth, registers]) for all of the tile. `a` is in blocks.
template <typename Vector, std::size_t height, std::size_t registers, typename Finish>
void MultiplyTile(const float* a, std::size_t depth, const float* b, const Finish& finish) {
  constexpr std::size_t kBlock = 2 * Vector::kWidth;
  typename Vector::Register sums[height][registers];
  for (std::size_t r = 0; r < height; ++r) {
    for (std::size_t c = 0; c < registers; ++c) sums[r][c] = Vector::Broadcast(0.0F);
  }
  for (std::size_t begin = 0; begin < depth; begin += kBlock, a += height * kBlock) {
    const std::size_t count = depth - begin < kBlock ? depth - begin : kBlock;
    for (std::size_t j = 0; j < count; ++j, b += registers * Vector::kWidth) {
      typename Vector::Register right[registers];
      for (std::size_t c = 0; c < registers; ++c) right[c] = Vector::Load(b + c * Vector::kWidth);
      for (std::size_t r = 0; r < height; ++r) {
        const auto left = Vector::Broadcast(a[r * kBlock + j]);
        for (std::size_t c = 0; c < registers; ++c) sums[r][c] = Vector::MultiplyAdd(left, right[c], sums[r][c]);
      }
    }
  }
  for (std::size_t r = 0; r < height; ++r) {
    for (std::size_t c = 0; c < registers; ++c) finish(r, c, sums[r][c]);
  }
}

// Transposes a panel of keys. In place of those that there are not stands the last one: what comes of it is as finite
// as what comes of the others, and the bias shuts it out.
template <typename Vector, std::size_t registers>
void PackKeys(const onnx_memo::simd::AttendedHead& head, std::size_t first, float* panel) {
  constexpr std::size_t kColumns = registers * Vector::kWidth;
  const float* rows[kColumns];
  for (std::size_t i = 0; i < kColumns; ++i) {
    rows[i] = head.keys + (first + i < head.count ? first + i : head.count - 1) * head.stride;
  }
  std::size_t i = 0;
  for (; i + 4 <= head.key_width; i += 4, panel += 4 * kColumns) {
    for (std::size_t c = 0; c < registers; ++c) {
      typename Vector::Register columns[4];
      Vector::LoadColumns(rows + c * Vector::kWidth, i, columns);
      for (std::size_t k = 0; k < 4; ++k) Vector::Store(panel + k * kColumns + c * Vector::kWidth, columns[k]);
    }
  }
  for (; i < head.key_width; ++i, panel += kColumns) {
    for (std::size_t k = 0; k < kColumns; ++k) panel[k] = rows[k][i];
  }
}

// Copies a panel of values; zeros stand beyond the last column.
template <typename Vector, std::size_t registers>
void PackValues(const onnx_memo::simd::AttendedHead& head, std::size_t first, float* panel) {
  constexpr std::size_t kColumns = registers * Vector::kWidth;
  const std::size_t left = head.value_width - first;
  const float* from = head.values + first;
  for (std::size_t j = 0; j < head.count; ++j, from += head.stride, panel += kColumns) {
    if (left >= kColumns) {
      for (std::size_t c = 0; c < registers; ++c) {
        Vector::Store(panel + c * Vector::kWidth, Vector::Load(from + c * Vector::kWidth));
      }
    } else {
      std::memcpy(panel, from, left * sizeof(float));
      for (std::size_t i = left; i < kColumns; ++i) panel[i] = 0.0F;
    }
  }
}

template <typename Vector>
void PackHead(const onnx_memo::simd::AttendedHead& head, float* packed) {
  constexpr std::size_t kPanel = 2 * Vector::kWidth;
  for (std::size_t first = 0; first < head.count; first += kPanel) {
    float* const panel = packed + first * head.key_width;
    if (head.count - first > Vector::kWidth) {
      PackKeys<Vector, 2>(head, first, panel);
    } else {
      PackKeys<Vector, 1>(head, first, panel);
    }
  }
  packed += onnx_memo::simd::WholePanels(head.count) * head.key_width;
  for (std::size_t first = 0; first < head.value_width; first += kPanel) {
    float* const panel = packed + first * head.count;
    if (head.value_width - first > Vector::kWidth) {
      PackValues<Vector, 2>(head, first, panel);
    } else {
      PackValues<Vector, 1>(head, first, panel);
    }
  }
}

// Up to `height` queries of a head. The rows of the tile that there are not are the last one again, and not stored.
template <typename Vector, std::size_t height>
struct AttendingTile {
  using Register = typename Vector::Register;
  static constexpr std::size_t kWidth = Vector::kWidth;
  static constexpr std::size_t kPanel = 2 * kWidth;

  const onnx_memo::simd::AttendedHead& head;
  const onnx_memo::simd::AttendingRows& rows;
  std::size_t first;
  float* query;
  float* scores;
  Register most[height];  // of each row's scores, lane by lane
  float factor[height];

  std::size_t Row(std::size_t r) const { return first + r < rows.count ? first + r : rows.count - 1; }

  // Copies the queries into blocks, times the scale: so the scores need none.
  void LoadQuery() {
    const Register scale = Vector::Broadcast(rows.scale);
    for (std::size_t r = 0; r < height; ++r) {
      const float* from = rows.query + Row(r) * rows.query_stride;
      std::size_t i = 0;
      for (; i + kWidth <= head.key_width; i += kWidth) {
        float* const to = query + (i / kPanel * height + r) * kPanel + i % kPanel;
        Vector::Store(to, Vector::Multiply(scale, Vector::Load(from + i)));
      }
      for (; i < head.key_width; ++i) query[(i / kPanel * height + r) * kPanel + i % kPanel] = rows.scale * from[i];
    }
  }

  template <std::size_t registers>
  void Score(const float* panel, std::size_t first_key) {
    float* const to = scores + first_key * height;
    MultiplyTile<Vector, height, registers>(
        query, head.key_width, panel, [&](std::size_t r, std::size_t c, Register sum) {
          const float* const bias = rows.bias + Row(r) * rows.bias_stride + first_key + c * kWidth;
          const Register score = Vector::Add(sum, Vector::Load(bias));
          Vector::Store(to + r * kPanel + c * kWidth, score);
          most[r] = Vector::Greatest(score, most[r]);
        });
  }

  // Scores become their exponentials, and `factor` what makes these sum up to 1.
  void Exponentiate() {
    for (std::size_t r = 0; r < height; ++r) {
      const Register greatest = Vector::Broadcast(Vector::Most(most[r]));
      Register sums[2] = {Vector::Broadcast(0.0F), Vector::Broadcast(0.0F)};
      float* row = scores + r * kPanel;
      const auto exponentiate = [&](std::size_t c) {
        const Register power = Exp<Vector>(Vector::Subtract(Vector::Load(row + c * kWidth), greatest));
        Vector::Store(row + c * kWidth, power);
        sums[c] = Vector::Add(sums[c], power);
      };
      std::size_t key = 0;
      for (; key + kWidth < head.count; key += kPanel, row += height * kPanel) {
        exponentiate(0);
        exponentiate(1);
      }
      if (key < head.count) exponentiate(0);
      factor[r] = Vector::Sum(Vector::Add(sums[0], sums[1]));
    }
    for (std::size_t r = 0; r < height; ++r) factor[r] = 1.0F / factor[r];
  }

  template <std::size_t registers>
  void Mix(const float* panel, std::size_t first_column) {
    const std::size_t left = head.value_width - first_column;
    float* const to = rows.context + first * rows.context_stride + first_column;
    MultiplyTile<Vector, height, registers>(scores, head.count, panel, [&](std::size_t r, std::size_t c, Register sum) {
      if (first + r >= rows.count) return;
      const Register mean = Vector::Multiply(sum, Vector::Broadcast(factor[r]));
      float* const context = to + r * rows.context_stride + c * kWidth;
      if (left >= (c + 1) * kWidth) {
        Vector::Store(context, mean);
      } else {
        float lanes[kWidth];
        Vector::Store(lanes, mean);
        std::memcpy(context, lanes, (left - c * kWidth) * sizeof(float));
      }
    });
  }

  void Run(const float* packed) {
    LoadQuery();
    for (std::size_t r = 0; r < height; ++r) most[r] = Vector::Broadcast(-HUGE_VALF);
    for (std::size_t key = 0; key < head.count; key += kPanel) {
      const float* const panel = packed + key * head.key_width;
      if (head.count - key > kWidth) {
        Score<2>(panel, key);
      } else {
        Score<1>(panel, key);
      }
    }
    Exponentiate();
    packed += onnx_memo::simd::WholePanels(head.count) * head.key_width;
    for (std::size_t column = 0; column < head.value_width; column += kPanel) {
      const float* const panel = packed + column * head.count;
      if (head.value_width - column > kWidth) {
        Mix<2>(panel, column);
      } else {
        Mix<1>(panel, column);
      }
    }
  }
};

template <typename Vector, std::size_t height>
void AttendTile(const onnx_memo::simd::AttendedHead& head, const float* packed,
                const onnx_memo::simd::AttendingRows& rows, std::size_t first, float* scratch) {
  float* const scores = scratch + height * onnx_memo::simd::WholePanels(head.key_width);
  AttendingTile<Vector, height> tile{head, rows, first, scratch, scores, {}, {}};
  tile.Run(packed);
}

template <typename Vector>
void Attend(const onnx_memo::simd::AttendedHead& head, const float* packed, const onnx_memo::simd::AttendingRows& rows,
            float* scratch) {
  constexpr std::size_t kTall = Vector::kTileRows;
  constexpr std::size_t kMedium = kTall * 2 / 3;
  constexpr std::size_t kShort = kTall / 3;
  static_assert(kTall <= onnx_memo::simd::kMostHeight && 2 * Vector::kWidth <= onnx_memo::simd::kMostPanel);
  for (std::size_t first = 0; first < rows.count; first += kTall) {
    const std::size_t left = rows.count - first;
    if (left > kMedium) {
      AttendTile<Vector, kTall>(head, packed, rows, first, scratch);
    } else if (left > kShort) {
      AttendTile<Vector, kMedium>(head, packed, rows, first, scratch);
    } else {
      AttendTile<Vector, kShort>(head, packed, rows, first, scratch);
    }
  }
}

}  // namespace
