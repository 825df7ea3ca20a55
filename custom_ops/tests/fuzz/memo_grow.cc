// MemoGrow: the rows that ran are among those that run now, with the very states that they had.
#include "kernels/memo_grow.h"

#include <algorithm>
#include <cstring>

#include "tests/fuzz/harness.h"

using namespace onnx_memo;
using namespace onnx_memo::testing;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Source source(data, size);
  const Batch batch(source);
  const std::int64_t width = source.Dim();
  const std::int64_t places = batch.size() * batch.padded_length;
  Inputs inputs = {FloatTensor({batch.running(), width}, source.SomeFloats(batch.running() * width)),
                   Vector(batch.rows),
                   FloatTensor({batch.size(), batch.padded_length}, source.SomeFloats(places)),
                   FloatTensor({batch.size(), batch.padded_length}, source.SomeFloats(places)),
                   Vector(batch.entry),
                   Vector(batch.length),
                   HalfTensor({batch.stored, width}, source.SomeHalves(batch.stored * width)),
                   HalfTensor({batch.numbers}, source.SomeHalves(batch.numbers)),
                   Vector(batch.offsets),
                   Vector(batch.squares),
                   source.Scalar(static_cast<float>(source.Below(64)) - 1),
                   FloatTensor({width, width}, source.SomeFloats(width * width)),
                   HalfTensor({batch.numbers}, source.SomeHalves(batch.numbers))};
  source.Disturb(&inputs);

  const FakeResult result = Call(MemoGrow::kName, inputs);
  if (Refused(result)) return 0;
  const std::int64_t padded = inputs[MemoGrow::kChange].dims[1];
  const std::int64_t state_width = inputs[MemoGrow::kStates].dims[1];
  const auto before = Numbers<std::int64_t>(inputs[MemoGrow::kRows]);
  const auto rows = Numbers<std::int64_t>(result.outputs[MemoGrow::kGrownRows]);
  const auto count = static_cast<std::int64_t>(rows.size());
  CHECK(result.outputs[MemoGrow::kGrown].dims == Integers({count, state_width}));
  CHECK(result.outputs[MemoGrow::kGrownRows].dims == Integers({count}));
  CHECK(result.outputs[MemoGrow::kStoredRows].dims == Integers({count}));
  CHECK(result.outputs[MemoGrow::kPredictedNow].dims == inputs[MemoGrow::kChange].dims);
  CheckRows(rows, Numbers<std::int64_t>(inputs[MemoGrow::kLength]), padded);
  CheckStoredRows(rows, Numbers<std::int64_t>(result.outputs[MemoGrow::kStoredRows]),
                  Numbers<std::int64_t>(inputs[MemoGrow::kEntry]), Numbers<std::int64_t>(inputs[MemoGrow::kOffsets]),
                  padded);
  const std::size_t row_bytes = Size(state_width) * sizeof(float);
  for (std::size_t r = 0; r < before.size(); ++r) {
    const auto at = std::lower_bound(rows.begin(), rows.end(), before[r]);
    CHECK(at != rows.end() && *at == before[r]);
    const std::size_t now = static_cast<std::size_t>(at - rows.begin());
    CHECK(row_bytes == 0 ||
          std::memcmp(inputs[MemoGrow::kStates].bytes.data() + r * row_bytes,
                      result.outputs[MemoGrow::kGrown].bytes.data() + now * row_bytes, row_bytes) == 0);
  }
  return 0;
}
