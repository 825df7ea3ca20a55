// MemoRows: the rows that run are tokens of sequences that hit, with the payload rows of their entries, and as many as
// may of each.
#include "kernels/memo_rows.h"

#include "tests/fuzz/harness.h"

using namespace onnx_memo;
using namespace onnx_memo::testing;

namespace {

void CheckChosen(const Inputs& inputs, const FakeResult& result) {
  const auto entry = Numbers<std::int64_t>(inputs[MemoRows::kEntry]);
  const auto length = Numbers<std::int64_t>(inputs[MemoRows::kLength]);
  const auto rows = Numbers<std::int64_t>(result.outputs[MemoRows::kRows]);
  const auto stored_rows = Numbers<std::int64_t>(result.outputs[MemoRows::kStoredRows]);
  const auto change = Numbers<float>(result.outputs[MemoRows::kChange]);
  const auto predicted = Numbers<float>(result.outputs[MemoRows::kPredicted]);
  const auto& hits = result.outputs[MemoRows::kHit].bytes;
  const std::int64_t padded = inputs[MemoRows::kStates].dims[1];
  const auto limit = static_cast<double>(Single<float>(inputs[MemoRows::kLimit]));
  CheckStoredRows(rows, stored_rows, entry, Numbers<std::int64_t>(inputs[MemoRows::kOffsets]), padded);
  std::size_t row = 0;
  bool all = !entry.empty();
  for (std::int64_t b = 0; b < static_cast<std::int64_t>(entry.size()); ++b) {
    const std::size_t first = row;
    const bool hit = hits[Size(b)] != 0;
    all = all && hit;
    for (std::int64_t t = 0; t < padded; ++t) {
      const std::size_t place = Size(b * padded + t);
      const bool runs = row < rows.size() && rows[row] == b * padded + t;
      row += runs ? 1 : 0;
      const bool token = hit && t < length[Size(b)];
      CHECK(token || (!runs && change[place] == 0 && predicted[place] == 0));
      CHECK(runs || change[place] == 0);
    }
    CHECK(!hit || (entry[Size(b)] != kMiss && length[Size(b)] > 0 && Single<float>(inputs[MemoRows::kBound]) >= 0));
    CHECK(!hit || static_cast<double>(row - first) <= limit * static_cast<double>(length[Size(b)]));
  }
  CHECK(row == rows.size());
  CHECK(all == (result.outputs[MemoRows::kAllHit].bytes[0] == 1));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Source source(data, size);
  const Batch batch(source);
  const std::int64_t width = source.Dim();
  const std::int64_t places = batch.size() * batch.padded_length;
  Inputs inputs = {FloatTensor({batch.size(), batch.padded_length, width}, source.SomeFloats(places * width)),
                   Vector(batch.entry),
                   Vector(batch.length),
                   HalfTensor({batch.stored, width}, source.SomeHalves(batch.stored * width)),
                   HalfTensor({batch.numbers}, source.SomeHalves(batch.numbers)),
                   Vector(batch.offsets),
                   Vector(batch.squares),
                   source.Scalar(static_cast<float>(source.Below(4))),
                   source.Scalar(static_cast<float>(source.Below(256))),
                   source.Scalar(1.0F - static_cast<float>(source.Below(8)) / 8)};
  source.Disturb(&inputs);

  const FakeResult result = Call(MemoRows::kName, inputs);
  if (Refused(result)) return 0;
  const Integers dims = {inputs[MemoRows::kStates].dims[0], inputs[MemoRows::kStates].dims[1]};
  CHECK(result.outputs[MemoRows::kRows].dims.size() == 1);
  CHECK(result.outputs[MemoRows::kStoredRows].dims == result.outputs[MemoRows::kRows].dims);
  CHECK(result.outputs[MemoRows::kHit].dims == Integers({dims[0]}));
  CHECK(result.outputs[MemoRows::kAllHit].dims.empty());
  CHECK(result.outputs[MemoRows::kChange].dims == dims && result.outputs[MemoRows::kPredicted].dims == dims);
  for (const float change : Numbers<float>(result.outputs[MemoRows::kChange])) CHECK(change >= 0 && change <= 8);
  CheckChosen(inputs, result);
  return 0;
}
