// Attention of one head, written once over a processor's vectors: see simd/kernels.h, which includes this file.
//
// A tile of queries stays in registers while it meets a panel of keys or values, two registers wide. What is the left
// side of a product, queries and scores, lies in blocks that are as wide as a panel, with all rows of the tile in each:
// so its strides are known to the compiler. Every number is summed in the same order, however high the tile is.
#pragma once

#include <cmath>  // only HUGE_VALF
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd/attention.h"
#include "simd/exp_kernels.h"

#ifdef _MSC_VER
#define ONNX_MEMO_NOINLINE __declspec(noinline)
#else
#define ONNX_MEMO_NOINLINE __attribute__((noinline))
#endif

namespace {

// to[height, registers] = finish(row, a[height, depth] * b[depth, registers]), where `a` is in blocks. A function of
// its own, as all of its sums stay in registers only if nothing else wants them.
template <typename Vector, std::size_t height, std::size_t registers, typename Finish>
ONNX_MEMO_NOINLINE void MultiplyTile(const float* a, std::size_t depth, const float* b, float* to, std::size_t stride,
                                     const Finish& finish) {
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
    for (std::size_t c = 0; c < registers; ++c)
      Vector::Store(to + r * stride + c * Vector::kWidth, finish(r, sums[r][c]));
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

// The columns of the panel that begins with column `first`.
template <typename Vector>
std::size_t PanelWidth(std::size_t first, std::size_t columns) {
  return columns - first > Vector::kWidth ? 2 * Vector::kWidth : Vector::kWidth;
}

// Widens from[depth, columns] into panels; zeros stand beyond the last column. It is read from begin to end, as it
// mostly comes from beyond the caches.
template <typename Vector>
void PackHalves(const std::uint16_t* from, std::size_t depth, std::size_t columns, float* packed) {
  constexpr std::size_t kPanel = 2 * Vector::kWidth;
  for (std::size_t i = 0; i < depth; ++i) {
    for (std::size_t first = 0; first < columns; first += kPanel) {
      const std::size_t width = PanelWidth<Vector>(first, columns);
      const std::size_t left = columns - first;
      const std::uint16_t* halves = from + i * columns + first;
      std::uint16_t last[kPanel] = {};
      if (left < width) {
        std::memcpy(last, halves, left * sizeof(std::uint16_t));
        halves = last;
      }
      float* const to = packed + first * depth + i * width;
      for (std::size_t c = 0; c < width; c += Vector::kWidth) Vector::Store(to + c, Vector::LoadHalves(halves + c));
    }
  }
}

template <typename Vector>
void PackStored(const onnx_memo::simd::AttendedHead& head, const onnx_memo::simd::StoredHead& stored, float* packed) {
  PackHalves<Vector>(stored.keys, head.key_width, head.count, packed);
  packed += onnx_memo::simd::WholePanels(head.count) * head.key_width;
  PackHalves<Vector>(stored.values, head.count, head.value_width, packed);
}

template <typename Vector>
void RepackToken(const onnx_memo::simd::AttendedHead& head, std::size_t token, const float* key, std::size_t stride,
                 const float* value, float* packed) {
  constexpr std::size_t kPanel = 2 * Vector::kWidth;
  const std::size_t begin = token / kPanel * kPanel;
  const std::size_t key_columns = PanelWidth<Vector>(begin, head.count);
  float* const column = packed + begin * head.key_width + (token - begin);
  for (std::size_t i = 0; i < head.key_width; ++i) column[i * key_columns] = key[i * stride];
  packed += onnx_memo::simd::WholePanels(head.count) * head.key_width;
  for (std::size_t first = 0; first < head.value_width; first += kPanel) {
    const std::size_t width = PanelWidth<Vector>(first, head.value_width);
    const std::size_t left = head.value_width - first;
    std::memcpy(packed + first * head.count + token * width, value + first,
                (left < width ? left : width) * sizeof(float));
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
  float* query;   // in blocks
  float* scores;  // likewise
  float factors[height];

  std::size_t Row(std::size_t r) const { return first + r < rows.count ? first + r : rows.count - 1; }

  void CopyQuery() {
    for (std::size_t r = 0; r < height; ++r) {
      const float* from = rows.query + Row(r) * rows.query_stride;
      float* to = query + r * kPanel;
      std::size_t i = 0;
      for (; i + kPanel <= head.key_width; i += kPanel, to += height * kPanel) {
        Vector::Store(to, Vector::Load(from + i));
        Vector::Store(to + kWidth, Vector::Load(from + i + kWidth));
      }
      for (std::size_t left = 0; i < head.key_width; ++i, ++left) to[left] = from[i];
    }
  }

  void Score(const float* packed) {
    const auto keep = [](std::size_t, Register sum) { return sum; };
    for (std::size_t key = 0; key < head.count; key += kPanel) {
      const float* const panel = packed + key * head.key_width;
      float* const to = scores + key * height;
      if (head.count - key > kWidth) {
        MultiplyTile<Vector, height, 2>(query, head.key_width, panel, to, kPanel, keep);
      } else {
        MultiplyTile<Vector, height, 1>(query, head.key_width, panel, to, kPanel, keep);
      }
    }
  }

  // Calls step(scores, key) for every register of a row's scores, of which the first is that of `key`.
  template <typename Step>
  void ForEachRegister(std::size_t r, const Step& step) const {
    float* at = scores + r * kPanel;
    std::size_t key = 0;
    for (; key + kWidth < head.count; key += kPanel, at += height * kPanel) {
      step(at, key);
      step(at + kWidth, key + kWidth);
    }
    if (key < head.count) step(at, key);
  }

  // Products become exponentials of scores, and `factors` what makes these sum up to 1. Each step is done for all rows
  // before the next: a row alone would wait for its greatest score, and then for its sum.
  void Exponentiate() {
    const Register scale = Vector::Broadcast(rows.scale);
    float greatest[height];
    for (std::size_t r = 0; r < height; ++r) {
      const float* const bias = rows.bias + Row(r) * rows.bias_stride;
      Register most = Vector::Broadcast(-HUGE_VALF);
      ForEachRegister(r, [&](float* at, std::size_t key) {
        const Register score = Vector::MultiplyAdd(scale, Vector::Load(at), Vector::Load(bias + key));
        Vector::Store(at, score);
        most = Vector::Greatest(score, most);
      });
      greatest[r] = Vector::Most(most);
    }
    float lanes[height * kWidth];
    for (std::size_t r = 0; r < height; ++r) {
      const Register most = Vector::Broadcast(greatest[r]);
      Register sum = Vector::Broadcast(0.0F);
      ForEachRegister(r, [&](float* at, std::size_t) {
        const Register power = Exp<Vector>(Vector::Subtract(Vector::Load(at), most));
        Vector::Store(at, power);
        sum = Vector::Add(sum, power);
      });
      Vector::Store(lanes + r * kWidth, sum);
    }
    for (std::size_t r = 0; r < height; ++r) factors[r] = Vector::Sum(Vector::Load(lanes + r * kWidth));
    for (std::size_t r = 0; r < height; ++r) factors[r] = 1.0F / factors[r];
  }

  template <std::size_t registers>
  void MixPanel(const float* panel, std::size_t column) {
    const auto scaled = [this](std::size_t r, Register sum) {
      return Vector::Multiply(sum, Vector::Broadcast(factors[r]));
    };
    float* const to = rows.context + first * rows.context_stride + column;
    const std::size_t columns = head.value_width - column;
    const std::size_t count = rows.count - first;
    if (columns >= registers * kWidth && count >= height) {
      MultiplyTile<Vector, height, registers>(scores, head.count, panel, to, rows.context_stride, scaled);
      return;
    }
    float wide[height * kPanel];
    MultiplyTile<Vector, height, registers>(scores, head.count, panel, wide, kPanel, scaled);
    const std::size_t some = (columns < registers * kWidth ? columns : registers * kWidth) * sizeof(float);
    for (std::size_t r = 0; r < height && r < count; ++r) {
      std::memcpy(to + r * rows.context_stride, wide + r * kPanel, some);
    }
  }

  void Mix(const float* packed) {
    for (std::size_t column = 0; column < head.value_width; column += kPanel) {
      const float* const panel = packed + column * head.count;
      if (head.value_width - column > kWidth) {
        MixPanel<2>(panel, column);
      } else {
        MixPanel<1>(panel, column);
      }
    }
  }
};

template <typename Vector, std::size_t height>
void AttendTile(const onnx_memo::simd::AttendedHead& head, const float* packed,
                const onnx_memo::simd::AttendingRows& rows, std::size_t first, float* scratch) {
  float* const scores = scratch + height * onnx_memo::simd::WholePanels(head.key_width);
  AttendingTile<Vector, height> tile{head, rows, first, scratch, scores, {}};
  tile.CopyQuery();
  tile.Score(packed);
  tile.Exponentiate();
  tile.Mix(packed + onnx_memo::simd::WholePanels(head.count) * head.key_width);
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
