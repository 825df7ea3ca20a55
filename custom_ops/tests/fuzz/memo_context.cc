// MemoContext against its definition.
#include "kernels/memo_context.h"

#include "tests/fuzz/harness.h"

using namespace onnx_memo;
using namespace onnx_memo::testing;

namespace {

void CheckNumbers(const ContextCase& request, const Floats& output) {
  const std::int64_t width = request.heads * request.head_width;
  for (std::int64_t at = 0; at < static_cast<std::int64_t>(output.size()); ++at) {
    const std::int64_t row = at / width;
    const double expected = NaiveContext(request, row / request.padded_length, row % request.padded_length, at % width);
    CHECK(static_cast<double>(output[Size(at)]) == expected);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Source source(data, size);
  const std::int64_t heads = 1 + source.Below(3);
  const std::int64_t width = heads * source.Dim();
  const std::int64_t padded_length = source.Dim();
  const Integers lengths = source.SomeIntegers(source.Below(4), 0, padded_length + 1);
  Integers offsets;
  std::int64_t rows = 0;
  for (const std::int64_t length : lengths) {
    offsets.push_back(rows);
    rows += length * length;
  }
  const Integers entry = source.SomeIntegers(source.Below(4), kMiss, static_cast<std::int64_t>(lengths.size()));
  const auto batch = static_cast<std::int64_t>(entry.size());
  Inputs inputs = {Vector(entry),
                   FloatTensor({batch, padded_length, width}, source.SomeFloats(batch * padded_length * width)),
                   HalfTensor({rows, heads}, source.SomeHalves(rows * heads)), Vector(offsets), Vector(lengths)};
  source.Disturb(&inputs);

  const FakeResult result = Call(MemoContext::kName, inputs);
  if (Refused(result)) return 0;
  const FakeValue& values = inputs[MemoContext::kValues];
  const FakeValue& output = result.outputs[MemoContext::kContext];
  CHECK(output.dims == values.dims);
  if (!source.exact() || Size(values.dims[1]) * values.bytes.size() > kAffordable * sizeof(float)) return 0;
  const std::int64_t payload_heads = inputs[MemoContext::kPayload].dims[1];
  CheckNumbers(
      {Numbers<std::int64_t>(inputs[MemoContext::kEntry]), payload_heads, values.dims[2] / payload_heads,
       values.dims[1], Numbers<float>(values), Numbers<std::uint16_t>(inputs[MemoContext::kPayload]),
       Numbers<std::int64_t>(inputs[MemoContext::kOffsets]), Numbers<std::int64_t>(inputs[MemoContext::kLengths])},
      Numbers<float>(output));
  return 0;
}
