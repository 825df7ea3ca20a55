// Which packed rows belong to which sequence of a batch, and the checks that stand before every read of an entry whose
// length is that of the sequence.
#pragma once

#include <cstdint>
#include <vector>

#include "ort/view.h"

namespace onnx_memo {

// Throws InvalidArgument unless the two hold one number a sequence.
void CheckBatch(const View<const std::int64_t, 1>& entry, const View<const std::int64_t, 1>& length);

// Throws InvalidArgument when sequence `b` has more tokens than it was padded to.
void CheckLength(std::int64_t b, std::int64_t tokens, std::int64_t padded_length);

// Throws InvalidArgument unless the `owned` (not negative) elements of `payload` from `first` on are among its `size`.
void CheckOwned(std::int64_t entry, std::int64_t first, std::int64_t owned, std::int64_t size, const char* payload);

struct Sequence {
  std::int64_t entry;   // exists, or kMiss
  std::int64_t tokens;  // not negative, at most the padded length
  std::int64_t first;   // number of its first packed row
  std::int64_t count;   // its packed rows
};

// The rows that run, of all sequences of a batch, packed in rising order.
class Ragged {
 public:
  // Throws InvalidArgument unless every entry is a miss or below `entries`, every length fits, the rows rise and are
  // tokens of the batch, and all tokens of a sequence without entry are among them.
  Ragged(View<const std::int64_t, 1> rows, View<const std::int64_t, 1> entry, View<const std::int64_t, 1> length,
         std::int64_t padded_length, std::int64_t entries);

  const std::vector<Sequence>& sequences() const { return sequences_; }
  std::int64_t rows() const { return rows_.dims[0]; }
  std::int64_t padded_length() const { return padded_length_; }

  // Where a packed row stands in its sequence: below the sequence's tokens, rising within it.
  std::int64_t Token(std::int64_t row) const { return rows_.data[row] % padded_length_; }

  // The first packed row of the sequence whose token is not below `token`, or the end of the sequence's rows.
  std::int64_t FirstRow(std::int64_t b, std::int64_t token) const;

 private:
  View<const std::int64_t, 1> rows_;
  std::int64_t padded_length_;
  std::vector<Sequence> sequences_;
};

}  // namespace onnx_memo
