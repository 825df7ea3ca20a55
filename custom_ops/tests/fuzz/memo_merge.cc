// MemoMerge against its definition.
#include "kernels/memo_merge.h"

#include "tests/fuzz/harness.h"

using namespace onnx_memo;
using namespace onnx_memo::testing;

namespace {

MergeCase Case(const Inputs& inputs) {
  return {Numbers<std::int64_t>(inputs[MemoMerge::kRows]),
          Numbers<std::int64_t>(inputs[MemoMerge::kEntry]),
          Numbers<std::int64_t>(inputs[MemoMerge::kLength]),
          Single<std::int64_t>(inputs[MemoMerge::kPaddedLength]),
          inputs[MemoMerge::kStates].dims[1],
          Numbers<float>(inputs[MemoMerge::kStates]),
          Numbers<float>(inputs[MemoMerge::kSpread]),
          Numbers<float>(inputs[MemoMerge::kFinal]),
          Numbers<std::uint16_t>(inputs[MemoMerge::kInfluence]),
          Numbers<std::int64_t>(inputs[MemoMerge::kOffsets]),
          Numbers<std::int64_t>(inputs[MemoMerge::kSquares])};
}

void CheckNumbers(const MergeCase& request, const Floats& output) {
  for (std::int64_t at = 0; at < static_cast<std::int64_t>(output.size()); ++at) {
    const std::int64_t row = at / request.width;
    const double expected =
        NaiveMerge(request, row / request.padded_length, row % request.padded_length, at % request.width);
    CHECK(static_cast<double>(output[Size(at)]) == expected);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Source source(data, size);
  const Batch batch(source);
  const std::int64_t width = source.Dim();
  Inputs inputs = {FloatTensor({batch.running(), width}, source.SomeFloats(batch.running() * width)),
                   FloatTensor({batch.running(), width}, source.SomeFloats(batch.running() * width)),
                   Vector(batch.rows),
                   Vector(batch.entry),
                   Vector(batch.length),
                   source.Scalar(batch.padded_length),
                   FloatTensor({batch.stored, width}, source.SomeFloats(batch.stored * width)),
                   HalfTensor({batch.numbers}, source.SomeHalves(batch.numbers)),
                   Vector(batch.offsets),
                   Vector(batch.squares)};
  source.Disturb(&inputs);

  const FakeResult result = Call(MemoMerge::kName, inputs);
  if (Refused(result)) return 0;
  const MergeCase request = Case(inputs);
  const FakeValue& output = result.outputs[MemoMerge::kOutput];
  CHECK(output.dims ==
        Integers({static_cast<std::int64_t>(request.entry.size()), request.padded_length, request.width}));
  const auto numbers = Numbers<float>(output);
  if (source.exact() && numbers.size() * request.rows.size() <= kAffordable) CheckNumbers(request, numbers);
  return 0;
}
