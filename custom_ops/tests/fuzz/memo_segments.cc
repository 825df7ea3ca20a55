// MemoSegments against its definition.
#include "kernels/memo_segments.h"

#include <algorithm>

#include "tests/fuzz/harness.h"

using namespace onnx_memo;
using namespace onnx_memo::testing;

namespace {

void CheckRow(const std::int64_t* mask, std::int64_t count, std::int64_t length, const float* weights) {
  const std::int64_t ones = std::find_if(mask, mask + count, [](std::int64_t m) { return m != 1; }) - mask;
  CHECK(length == (std::count(mask + ones, mask + count, 0) == count - ones ? ones : kIrregular));
  for (std::int64_t s = 0; s < kSegments; ++s) {
    std::int64_t tokens = 0;
    for (std::int64_t t = 0; t < length; ++t) tokens += kSegments * t / length == s;
    for (std::int64_t t = 0; t < count; ++t) {
      const bool inside = t < length && kSegments * t / length == s;
      CHECK(weights[s * count + t] == (inside ? 1.0F / static_cast<float>(tokens) : 0.0F));
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Source source(data, size);
  const std::int64_t rows = source.Dim();
  const std::int64_t columns = source.Dim();
  Integers numbers;
  for (std::int64_t b = 0; b < rows; ++b) {
    const std::int64_t ones = source.Below(columns + 1);
    for (std::int64_t t = 0; t < columns; ++t) numbers.push_back(t < ones);
  }
  Inputs inputs = {IntTensor({rows, columns}, numbers)};
  source.Disturb(&inputs);

  const FakeResult result = Call(MemoSegments::kName, inputs);
  if (Refused(result)) return 0;
  const std::int64_t batch = inputs[0].dims[0];
  const std::int64_t count = inputs[0].dims[1];
  CHECK(result.outputs[MemoSegments::kLength].dims == Integers({batch}));
  CHECK(result.outputs[MemoSegments::kWeights].dims == Integers({batch, kSegments, count}));
  const auto mask = Numbers<std::int64_t>(inputs[0]);
  const auto length = Numbers<std::int64_t>(result.outputs[MemoSegments::kLength]);
  const auto weights = Numbers<float>(result.outputs[MemoSegments::kWeights]);
  for (std::int64_t b = 0; b < batch; ++b) {
    CheckRow(mask.data() + b * count, count, length[Size(b)], weights.data() + b * kSegments * count);
  }
  return 0;
}
