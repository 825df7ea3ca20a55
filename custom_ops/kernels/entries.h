// Which payload rows belong to an entry, and the checks that stand before every read of them.
#pragma once

#include <cstdint>

#include "ort/view.h"

namespace onnx_memo {

constexpr std::int64_t kMiss = -1;

// Throws InvalidArgument unless `entry` is a miss or one of the store's `count`.
void CheckExists(std::int64_t entry, std::int64_t count);

struct Entries {
  View<const std::int64_t, 1> offsets;  // first payload row of each entry
  View<const std::int64_t, 1> lengths;  // tokens of each entry
  std::int64_t payload_rows;

  // Throws InvalidArgument when the two tables differ in size.
  void CheckShapes() const;

  // Throws InvalidArgument unless `entry` is a miss or exists, has at most `padded_length` tokens and has all its rows,
  // one a token or (`square`) one a pair of tokens, inside the payload.
  void CheckReadable(std::int64_t entry, std::int64_t padded_length, bool square) const;

  std::int64_t length(std::int64_t entry) const { return lengths.data[entry]; }
  std::int64_t offset(std::int64_t entry) const { return offsets.data[entry]; }
};

}  // namespace onnx_memo
