// Where the queries, keys and values of packed rows lie.
#pragma once

#include <cstdint>
#include <vector>

#include "ort/view.h"

namespace onnx_memo {

// The numbers of all rows of all heads, in any order. `data` must not be read when there are none.
template <typename T>
struct Strided {
  T* data = nullptr;
  std::int64_t begin = 0;   // of the first row of the first head
  std::int64_t head = 0;    // from one head to the next
  std::int64_t row = 0;     // from one row to the next
  std::int64_t number = 1;  // from one number of a row to the next

  T* At(std::int64_t its_head, std::int64_t its_row) const { return data + (begin + its_head * head + its_row * row); }
};

struct Heads {
  std::int64_t count;        // H
  std::int64_t key_width;    // dk
  std::int64_t value_width;  // dv
  std::int64_t rows;         // R
  Strided<const float> query, key, value;
};

// Of query[H, R, dk], key[H, dk, R] and value[H, R, dv]. Throws InvalidArgument when they do not fit each other.
Heads Apart(const View<const float, 3>& query, const View<const float, 3>& key, const View<const float, 3>& value);

// Of qkv[R, H * (2 * dk + dv)], a row of which holds the queries of all heads, then their keys, then their values;
// `heads` holds H, dk and dv. Throws InvalidArgument when they do not fit, or one of the three is below 1.
Heads SideBySide(const View<const float, 2>& qkv, const View<const std::int64_t, 1>& heads);

// The shape of a context [..., Q, H * dv] of `rows` of the rows, where that of qkv[..., R, W] is `dims`. Throws
// InvalidArgument when other axes than the last but one have rows.
std::vector<std::int64_t> ContextDims(std::vector<std::int64_t> dims, const Heads& heads, std::int64_t rows);

}  // namespace onnx_memo
