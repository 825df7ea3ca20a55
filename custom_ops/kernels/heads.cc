// Where the queries, keys and values of packed rows lie.
#include "kernels/heads.h"

#include <array>

namespace onnx_memo {

Heads Apart(const View<const float, 3>& query, const View<const float, 3>& key, const View<const float, 3>& value) {
  const auto [count, rows, key_width] = query.dims;
  const std::int64_t value_width = value.dims[2];
  if (key.dims != std::array{count, key_width, rows}) {
    Refuse("'key' does not fit the other inputs; its shape must be [heads, width, rows], like that of 'query'");
  }
  if (value.dims != std::array{count, rows, value_width}) {
    Refuse("'value' does not fit the other inputs; its shape must be [heads, rows, width], like that of 'query'");
  }
  const std::int64_t keys = Product(rows, key_width);
  return {count,
          key_width,
          value_width,
          rows,
          {query.data, 0, keys, key_width, 1},
          {key.data, 0, keys, 1, rows},
          {value.data, 0, Product(rows, value_width), value_width, 1}};
}

Heads SideBySide(const View<const float, 2>& qkv, const View<const std::int64_t, 1>& heads) {
  if (heads.dims[0] != 3) {
    Refuse("'heads' holds ", heads.dims[0], " numbers; give the heads, the width of a head's keys and values");
  }
  const std::int64_t count = heads.data[0];
  const std::int64_t key_width = heads.data[1];
  const std::int64_t value_width = heads.data[2];
  if (count < 1 || key_width < 1 || value_width < 1) {
    Refuse("'heads' is ", count, ", ", key_width, ", ", value_width, "; give three positive numbers");
  }
  const std::int64_t width = Product(count, Sum(Sum(key_width, key_width), value_width));
  if (qkv.dims[1] != width) {
    Refuse("'qkv' is ", qkv.dims[1], " wide; for ", count, " heads of ", key_width, " and ", value_width, " give ",
           width);
  }
  const std::int64_t keys = count * key_width;  // of a row; less than `width`
  return {count,
          key_width,
          value_width,
          qkv.dims[0],
          {qkv.data, 0, key_width, width, 1},
          {qkv.data, keys, key_width, width, 1},
          {qkv.data, 2 * keys, value_width, width, 1}};
}

std::vector<std::int64_t> ContextDims(std::vector<std::int64_t> dims, const Heads& heads, std::int64_t rows) {
  const std::size_t axes = dims.size();
  if (axes < 2 || dims[axes - 2] != heads.rows) {
    Refuse("'qkv' has not all of its ", heads.rows, " rows in its last axis but one; make all axes before it 1");
  }
  dims[axes - 2] = rows;
  dims[axes - 1] = heads.count * heads.value_width;  // less than the width of `qkv`
  return dims;
}

}  // namespace onnx_memo
