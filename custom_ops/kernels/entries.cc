// Checks an entry before its payload is read.
#include "kernels/entries.h"

namespace onnx_memo {

void CheckExists(std::int64_t entry, std::int64_t count) {
  if (entry < kMiss || entry >= count) {
    Refuse("entry ", entry, " does not exist, the store holds ", count,
           "; take entries from a MemoLookup over the same store");
  }
}

void Entries::CheckShapes() const {
  if (offsets.dims[0] != lengths.dims[0]) {
    Refuse("'offsets' holds ", offsets.dims[0], " entries and 'lengths' ", lengths.dims[0],
           "; both must describe the same store");
  }
}

void Entries::CheckReadable(std::int64_t entry, std::int64_t padded_length, bool square) const {
  CheckExists(entry, lengths.dims[0]);
  if (entry == kMiss) return;
  const std::int64_t tokens = length(entry);
  if (tokens < 0 || tokens > padded_length) {
    Refuse("entry ", entry, " has ", tokens, " tokens and the request is padded to ", padded_length,
           "; an entry only fits requests of at least its own length");
  }
  const std::int64_t rows = square ? Product(tokens, tokens) : tokens;
  if (offset(entry) < 0 || offset(entry) > payload_rows || rows > payload_rows - offset(entry)) {
    Refuse("entry ", entry, " owns ", rows, " payload rows from row ", offset(entry),
           " on, but the payload ends after ", payload_rows, "; the store is damaged, build it again");
  }
}

}  // namespace onnx_memo
