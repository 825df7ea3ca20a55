// MemoRows: the rows that run are tokens of the batch, with the payload rows of their entries, and as many as may.
#include "kernels/memo_rows.h"

#include <algorithm>

#include "tests/fuzz/harness.h"

using namespace onnx_memo;
using namespace onnx_memo::testing;

namespace {

void CheckHit(const Inputs& inputs, const FakeResult& result) {
  const auto entry = Numbers<std::int64_t>(inputs[MemoRows::kEntry]);
  const auto length = Numbers<std::int64_t>(inputs[MemoRows::kLength]);
  const auto rows = Numbers<std::int64_t>(result.outputs[MemoRows::kRows]);
  const auto stored_rows = Numbers<std::int64_t>(result.outputs[MemoRows::kStoredRows]);
  const std::int64_t padded = inputs[MemoRows::kStates].dims[1];
  CHECK(Single<float>(inputs[MemoRows::kBound]) >= 0);
  CHECK(!length.empty() && *std::min_element(length.begin(), length.end()) > 0);
  CHECK(static_cast<double>(rows.size()) <= static_cast<double>(Single<float>(inputs[MemoRows::kLimit])) *
                                                static_cast<double>(length.size()) * static_cast<double>(padded));
  CheckRows(rows, length, padded);
  CheckStoredRows(rows, stored_rows, entry, Numbers<std::int64_t>(inputs[MemoRows::kOffsets]), padded);
  const auto runs = [&](std::int64_t row) { return std::binary_search(rows.begin(), rows.end(), row); };
  const auto change = Numbers<float>(result.outputs[MemoRows::kChange]);
  for (std::int64_t b = 0; b < static_cast<std::int64_t>(entry.size()); ++b) {
    for (std::int64_t t = 0; t < length[Size(b)]; ++t) {
      const std::int64_t row = b * padded + t;
      if (entry[Size(b)] == kMiss || change[Size(row)] > 0) CHECK(runs(row));
    }
  }
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
  CHECK(result.outputs[MemoRows::kHit].dims.empty());
  CHECK(result.outputs[MemoRows::kChange].dims == dims && result.outputs[MemoRows::kPredicted].dims == dims);
  for (const float change : Numbers<float>(result.outputs[MemoRows::kChange])) CHECK(change >= 0 && change <= 8);
  if (result.outputs[MemoRows::kHit].bytes[0] == 1) {
    CheckHit(inputs, result);
  } else {
    CHECK(result.outputs[MemoRows::kHit].bytes[0] == 0 && result.outputs[MemoRows::kRows].dims[0] == 0);
    for (const float predicted : Numbers<float>(result.outputs[MemoRows::kPredicted])) CHECK(predicted == 0);
  }
  return 0;
}
