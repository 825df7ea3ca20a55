// MemoFetch against its definition.
#include "kernels/memo_fetch.h"

#include <cmath>

#include "tests/fuzz/harness.h"

using namespace onnx_memo;
using namespace onnx_memo::testing;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Source source(data, size);
  const std::int64_t width = source.Dim();
  const std::int64_t padded_length = source.Dim();
  const Integers lengths = source.SomeIntegers(source.Below(8), 0, padded_length + 1);
  Integers offsets;
  std::int64_t rows = 0;
  for (const std::int64_t length : lengths) {
    offsets.push_back(rows);
    rows += length;
  }
  const Integers entry = source.SomeIntegers(source.Below(8), kMiss, static_cast<std::int64_t>(lengths.size()));
  Inputs inputs = {Vector(entry), HalfTensor({rows, width}, source.SomeHalves(rows * width)), Vector(offsets),
                   Vector(lengths), source.Scalar(padded_length)};
  source.Disturb(&inputs);

  const FakeResult result = Call(MemoFetch::kName, inputs);
  if (Refused(result)) return 0;
  const FetchCase request{
      Numbers<std::int64_t>(inputs[MemoFetch::kEntry]),    inputs[MemoFetch::kPayload].dims[1],
      Numbers<std::uint16_t>(inputs[MemoFetch::kPayload]), Numbers<std::int64_t>(inputs[MemoFetch::kOffsets]),
      Numbers<std::int64_t>(inputs[MemoFetch::kLengths]),  Single<std::int64_t>(inputs[MemoFetch::kPaddedLength])};
  const FakeValue& output = result.outputs[MemoFetch::kOutput];
  CHECK(output.dims ==
        Integers({static_cast<std::int64_t>(request.entry.size()), request.padded_length, request.width}));
  const auto numbers = Numbers<float>(output);
  const Floats expected = NaiveFetch(request);
  CHECK(numbers.size() == expected.size());
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    CHECK(numbers[i] == expected[i] || (std::isnan(numbers[i]) && std::isnan(expected[i])));
  }
  return 0;
}
