// Inputs made from the fuzzer's bytes, and the call of an operator with its checks.
#include "tests/fuzz/harness.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "tests/annoy_builder.h"

namespace onnx_memo::testing {
namespace {

using ort::ElementType;

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kMostElements = 1 << 18;  // of an input whose dimensions were disturbed

// A float of these bits.
float Bits(std::uint32_t bits) {
  float number = 0;
  std::memcpy(&number, &bits, sizeof number);
  return number;
}

std::uint16_t SmallHalf(std::uint32_t number) {
  constexpr std::uint16_t kSmall[] = {0x0000, 0x3C00, 0x4000, 0x4200, 0x4400, 0xBC00, 0xC000, 0xC200};
  return kSmall[number % 8];  // 0, 1, 2, 3, 4, -1, -2, -3
}

// The number of elements, or -1 if an input of a fuzzer should not have as many.
std::int64_t Count(const std::vector<std::int64_t>& dims) {
  if (std::find(dims.begin(), dims.end(), 0) != dims.end()) return 0;
  std::int64_t count = 1;
  for (const std::int64_t dim : dims) {
    if (dim > kMostElements / count) return -1;
    count *= dim;
  }
  return count;
}

// Keeps as many of the bytes as the shape and type hold; zeros follow.
void Fit(FakeValue* value) {
  std::vector<unsigned char> bytes(Size(Count(value->dims)) * ElementSize(value->type));
  std::copy_n(value->bytes.begin(), std::min(bytes.size(), value->bytes.size()), bytes.begin());
  value->bytes = std::move(bytes);
}

}  // namespace

Source::Source(const std::uint8_t* data, std::size_t size)
    : at_(data), end_(data + size), exact_(Byte() % 2 == 0), random_(Byte()) {}

std::int64_t Source::Below(std::int64_t end) {
  const std::int64_t high = end > 256 ? Byte() : 0;
  return (256 * high + Byte()) % end;
}

std::int64_t Source::Dim() {
  const std::int64_t byte = Byte();
  return byte < 248 ? byte % 8 : (byte - 247) * 18;
}

std::int64_t Source::Hostile() {
  constexpr std::int64_t kExtremes[] = {-1,
                                        -2,
                                        kMost,
                                        -kMost - 1,
                                        kMost - 1,
                                        -kMost,
                                        kMost / 2,
                                        kMost / 2 + 1,
                                        kMost / 4 + 1,
                                        kMost / 4 - 3,
                                        std::int64_t{1} << 31,
                                        std::int64_t{1} << 32,
                                        0,
                                        1};
  const std::size_t choice = Byte();
  if (choice < 240) return kExtremes[choice % std::size(kExtremes)];
  std::uint64_t bits = 0;
  for (int i = 0; i < 8; ++i) bits = bits << 8 | Byte();
  return static_cast<std::int64_t>(bits);
}

// The long rows of numbers do not come from the fuzzer's bytes one by one: only where they begin does.
float Source::Float() {
  random_ = random_ * 1664525 + 1013904223;
  if (exact_) return NaiveHalf(SmallHalf(random_ >> 24));
  constexpr std::uint32_t kSpecial[] = {0x7FC00000, 0x7F800000, 0xFF800000, 0x80000000, 0x00000001, 0x7F7FFFFF, 0, 0};
  const std::uint32_t choice = random_ >> 27;
  return choice < 8 ? Bits(kSpecial[choice]) : Bits(random_ << 7 ^ random_ >> 9);
}

Floats Source::SomeFloats(std::int64_t count) {
  random_ += Byte();
  Floats numbers(Size(count));
  for (float& number : numbers) number = Float();
  return numbers;
}

Halves Source::SomeHalves(std::int64_t count) {
  random_ += Byte();
  Halves numbers(Size(count));
  for (std::uint16_t& number : numbers) {
    random_ = random_ * 1664525 + 1013904223;
    number = exact_ ? SmallHalf(random_ >> 24) : static_cast<std::uint16_t>(random_ >> 16);
  }
  return numbers;
}

Integers Source::SomeIntegers(std::int64_t count, std::int64_t begin, std::int64_t end) {
  Integers numbers(Size(count));
  for (std::int64_t& number : numbers) number = begin + Below(end - begin);
  return numbers;
}

std::vector<std::int64_t> Source::ScalarDims() {
  return Byte() % 2 == 0 ? std::vector<std::int64_t>{} : std::vector<std::int64_t>{1};
}

FakeValue Source::Scalar(float number) { return FloatTensor(ScalarDims(), {number}); }

FakeValue Source::Scalar(std::int64_t number) { return IntTensor(ScalarDims(), {number}); }

std::vector<std::uint8_t> Source::Index(const Floats& points, std::int64_t dimensions) {
  std::vector<std::uint8_t> bytes = AnnoyBuilder(points, Size(dimensions), Byte()).Build(Size(1 + Below(3)));
  bytes.resize(bytes.size() - Size(std::min(Below(64), static_cast<std::int64_t>(bytes.size()))));
  Overwrite(&bytes);
  bytes.shrink_to_fit();
  return bytes;
}

void Source::Overwrite(std::vector<std::uint8_t>* bytes) {
  const auto words = static_cast<std::int64_t>(bytes->size() / 4);
  for (std::int64_t left = words > 0 ? Below(24) : 0; left > 0; --left) {
    const auto word = static_cast<std::int32_t>(Byte() % 4 == 0 ? Hostile() >> 32 : Below(256));
    std::memcpy(bytes->data() + 4 * Below(std::min<std::int64_t>(words, 65536)), &word, 4);
  }
}

void Source::Disturb(Inputs* inputs) {
  for (std::int64_t left = Below(4); left > 0; --left) {
    FakeValue* const value = &(*inputs)[Size(Below(static_cast<std::int64_t>(inputs->size())))];
    const std::uint8_t kind = Byte() % 16;
    if (kind < 7) {
      DisturbElement(value);
    } else if (kind < 12) {
      DisturbDim(value);
    } else if (kind < 14) {
      DisturbSize(inputs, *value);
    } else if (kind == 14) {
      DisturbRank(value);
    } else {
      constexpr ElementType kTypes[] = {ElementType::kUndefined, ElementType::kFloat, ElementType::kUint8,
                                        ElementType::kInt64,     ElementType::kBool,  ElementType::kFloat16,
                                        ElementType::kInt8,      ElementType::kInt32};
      value->type = kTypes[Byte() % std::size(kTypes)];
      Fit(value);
    }
  }
}

void Source::DisturbElement(FakeValue* value) {
  const std::size_t size = ElementSize(value->type);
  const auto count = static_cast<std::int64_t>(value->bytes.size() / size);
  if (count == 0) return;
  const std::int64_t place = Below(std::min<std::int64_t>(count, 65536));
  const std::int64_t number = Hostile();
  std::memcpy(value->bytes.data() + Size(place) * size, &number, size);
  if (value->type != ElementType::kInt64) exact_ = false;
}

// Any size that goes with the others; huge ones go with a zero.
void Source::DisturbDim(FakeValue* value) {
  if (value->dims.empty()) return;
  const auto rank = static_cast<std::int64_t>(value->dims.size());
  std::vector<std::int64_t> dims = value->dims;
  if (Byte() % 2 == 0) {
    dims[Size(Below(rank))] = Dim();
  } else {
    dims[Size(Below(rank))] = Hostile() & kMost;
    dims[Size(Below(rank))] = 0;
  }
  if (Count(dims) < 0) return;
  value->dims = dims;
  Fit(value);
}

// A size of the value, and the same size of all others that hold no elements then either.
void Source::DisturbSize(Inputs* inputs, const FakeValue& value) {
  if (value.dims.empty()) return;
  const std::int64_t size = value.dims[Size(Below(static_cast<std::int64_t>(value.dims.size())))];
  const std::int64_t other = Hostile() & kMost;
  for (FakeValue& input : *inputs) {
    std::vector<std::int64_t> dims = input.dims;
    std::replace(dims.begin(), dims.end(), size, other);
    if (Count(dims) != 0) continue;
    input.dims = dims;
    Fit(&input);
  }
}

void Source::DisturbRank(FakeValue* value) {
  if (Byte() % 2 == 0 || value->dims.empty()) {
    value->dims.push_back(1);
  } else {
    value->dims.pop_back();
  }
  if (Count(value->dims) < 0) value->dims.assign(1, 1);
  Fit(value);
}

Batch::Batch(Source& source) : padded_length(source.Dim()) {
  const std::int64_t entries = source.Below(4);
  const Integers tokens = source.SomeIntegers(entries, 0, padded_length + 1);
  for (const std::int64_t n : tokens) {
    offsets.push_back(stored);
    squares.push_back(numbers);
    stored += n;
    numbers += n * n;
  }
  entry = source.SomeIntegers(source.Below(5), kMiss, entries);
  for (std::int64_t b = 0; b < size(); ++b) {
    const std::int64_t e = entry[Size(b)];
    const std::int64_t n = e == kMiss ? source.Below(padded_length + 1) : tokens[Size(e)];
    length.push_back(n);
    const std::int64_t step = e == kMiss ? 1 : 1 + source.Below(6);
    for (std::int64_t t = e == kMiss ? 0 : source.Below(4); t < n; t += step) rows.push_back(b * padded_length + t);
  }
}

FakeValue Vector(const Integers& numbers) { return IntTensor({static_cast<std::int64_t>(numbers.size())}, numbers); }

const FakeOrt& Host() {
  static const FakeOrt host;
  return host;
}

FakeResult Call(const ort::CustomOp* op, void* kernel, const Inputs& inputs) {
  const FakeResult result = FakeOrt::Run(op, kernel, inputs);
  if (Refused(result)) {
    CHECK(result.message == "the output is too large" ||
          result.message.rfind(op->GetName(op) + std::string(": "), 0) == 0);
    CHECK(result.message.find('\n') == std::string::npos);
    return result;
  }
  for (std::size_t i = 0; i < result.outputs.size(); ++i) {
    const FakeValue& output = result.outputs[i];
    CHECK(output.type == op->GetOutputType(op, i));
  }
  return result;
}

FakeResult Call(const char* name, const Inputs& inputs) {
  const ort::CustomOp* const op = Host().Find(name);
  void* const kernel = Host().CreateKernel(op);
  FakeResult result = Call(op, kernel, inputs);
  op->KernelDestroy(kernel);
  return result;
}

void CheckRows(const Integers& rows, const Integers& length, std::int64_t padded_length) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    CHECK(rows[i] >= 0 && (i == 0 || rows[i - 1] < rows[i]));
    const std::int64_t b = rows[i] / padded_length;
    CHECK(b < static_cast<std::int64_t>(length.size()) && rows[i] % padded_length < length[Size(b)]);
  }
}

void CheckStoredRows(const Integers& rows, const Integers& stored_rows, const Integers& entry, const Integers& offsets,
                     std::int64_t padded_length) {
  CHECK(rows.size() == stored_rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::int64_t e = entry[Size(rows[i] / padded_length)];
    CHECK(stored_rows[i] == (e == kMiss ? 0 : offsets[Size(e)] + rows[i] % padded_length));
  }
}

}  // namespace onnx_memo::testing
