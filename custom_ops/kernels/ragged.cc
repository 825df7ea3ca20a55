// Hands out the packed rows to their sequences, after checking all of them.
#include "kernels/ragged.h"

#include <algorithm>

#include "kernels/entries.h"

namespace onnx_memo {

void CheckBatch(const View<const std::int64_t, 1>& entry, const View<const std::int64_t, 1>& length) {
  if (entry.dims[0] != length.dims[0]) {
    Refuse("'entry' holds ", entry.dims[0], " rows and 'length' ", length.dims[0], "; give both one number a sequence");
  }
}

void CheckLength(std::int64_t b, std::int64_t tokens, std::int64_t padded_length) {
  if (tokens > padded_length) {
    Refuse("sequence ", b, " has ", tokens, " tokens and is padded to ", padded_length,
           "; take lengths from MemoSegments of the same request");
  }
}

void CheckOwned(std::int64_t entry, std::int64_t first, std::int64_t owned, std::int64_t size, const char* payload) {
  if (first < 0 || first > size || owned > size - first) {
    Refuse("entry ", entry, " owns ", owned, " of '", payload, "' from ", first, " on, but that ends after ", size,
           "; the store is damaged, build it again");
  }
}

Ragged::Ragged(View<const std::int64_t, 1> rows, View<const std::int64_t, 1> entry, View<const std::int64_t, 1> length,
               std::int64_t padded_length, std::int64_t entries)
    : rows_(rows), padded_length_(padded_length) {
  CheckBatch(entry, length);
  if (padded_length < 0) Refuse("'padded_length' is ", padded_length, "; give the length of the padded request");
  const std::int64_t batch = entry.dims[0];
  const std::int64_t places = Product(batch, padded_length);
  sequences_.reserve(Size(batch));
  std::int64_t row = 0;
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t tokens = length.data[b];
    CheckExists(entry.data[b], entries);
    CheckLength(b, tokens, padded_length);
    if (tokens < 0) {
      Refuse("sequence ", b, " has ", tokens, " tokens; only a batch that MemoRows hit can be computed from rows");
    }
    const std::int64_t first = row;
    const std::int64_t begin = b * padded_length;
    for (; row < rows.dims[0] && rows.data[row] < begin + padded_length; ++row) {
      const std::int64_t least = row == 0 ? 0 : rows.data[row - 1] + 1;
      if (rows.data[row] < least) {
        Refuse("'rows' holds ", rows.data[row], " at ", row, ", where at least ", least,
               " was expected; rows are not negative and rise");
      }
      if (rows.data[row] - begin >= tokens) {
        Refuse("'rows' holds ", rows.data[row], ", which is token ", rows.data[row] - begin, " of sequence ", b,
               ", but that has ", tokens, "; padding does not run");
      }
    }
    if (entry.data[b] == kMiss && row - first != tokens) {
      Refuse("sequence ", b, " has no entry and ", row - first, " of its ", tokens,
             " tokens run; without an entry all must");
    }
    sequences_.push_back({entry.data[b], tokens, first, row - first});
  }
  if (row < rows.dims[0]) {
    Refuse("'rows' holds ", rows.data[row], ", but the batch has ", places, " places; take rows from MemoRows");
  }
}

std::int64_t Ragged::FirstRow(std::int64_t b, std::int64_t token) const {
  const Sequence& sequence = sequences_[Size(b)];
  const std::int64_t* const begin = rows_.data + sequence.first;
  return std::lower_bound(begin, begin + sequence.count, b * padded_length_ + token) - rows_.data;
}

}  // namespace onnx_memo
