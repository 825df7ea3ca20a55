// MemoProduct against its definition.
#include "kernels/memo_product.h"

#include <cmath>

#include "tests/fuzz/harness.h"

using namespace onnx_memo;
using namespace onnx_memo::testing;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Source source(data, size);
  ProductCase request;
  request.rows = source.Dim();
  request.inner = 4 * source.Below(20);
  request.columns = source.Dim();
  for (std::int64_t k = source.Below(8); k < request.inner; k += 1 + source.Below(30)) request.channels.push_back(k);
  request.x = source.SomeFloats(request.rows * request.inner);
  for (const std::int64_t weight : source.SomeIntegers(request.inner * request.columns, -127, 128)) {
    request.weights.push_back(static_cast<std::int8_t>(weight));
  }
  request.scales = source.SomeFloats(request.columns);
  request.bias = source.SomeFloats(request.columns);
  const auto channels = static_cast<std::int64_t>(request.channels.size());
  request.apart = source.SomeFloats(channels * request.columns);
  const std::vector<std::int8_t> packed = request.Packed();
  Inputs inputs = {
      FloatTensor({request.rows, request.inner}, request.x),
      Tensor(ort::ElementType::kInt8, {(request.columns + 47) / 48, request.inner / 4, 48, 4}, packed),
      Tensor(ort::ElementType::kInt32, {request.columns}, request.Sums()),
      FloatTensor({request.columns}, request.scales),
      FloatTensor({request.columns}, request.bias),
      Vector(request.channels),
      FloatTensor({channels, request.columns}, request.apart),
  };
  const Inputs before = inputs;
  source.Disturb(&inputs);

  const FakeResult result = Call(MemoProduct::kName, inputs);
  if (Refused(result)) return 0;
  const FakeValue& y = result.outputs[MemoProduct::kY];
  const std::vector<std::int64_t>& dims = inputs[MemoProduct::kX].dims;
  CHECK(y.dims.size() == dims.size());
  CHECK(std::equal(dims.begin(), dims.end() - 1, y.dims.begin()));
  CHECK(y.dims.back() == inputs[MemoProduct::kScales].dims[0]);
  bool same = source.exact();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    same &= inputs[i].dims == before[i].dims && inputs[i].bytes == before[i].bytes;
  }
  if (!same) return 0;
  const auto numbers = Numbers<float>(y);
  const std::vector<double> expected = NaiveProduct(request);
  CHECK(numbers.size() == expected.size());
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    CHECK(std::abs(static_cast<double>(numbers[i]) - expected[i]) <= 1e-3 * (1 + std::abs(expected[i])));
  }
  return 0;
}
