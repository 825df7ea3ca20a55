// The inner loops of every kind of processor that this one runs: they stay inside, and agree.
#include "simd/simd.h"

#include <algorithm>
#include <limits>

#include "tests/fuzz/harness.h"

using namespace onnx_memo;
using namespace onnx_memo::testing;

namespace {

// A function's answer at every level. With whole numbers all sums are exact.
template <typename Answer>
void CheckAgree(bool exact, const Answer& answer) {
  const Floats first = answer(*simd::Supported().front());
  for (const simd::Level* level : simd::Supported()) {
    const Floats other = answer(*level);
    CHECK(!exact || other == first);
  }
}

// Floats at an odd address.
std::vector<unsigned char> Shifted(const Floats& numbers) {
  const auto* const begin = reinterpret_cast<const unsigned char*>(numbers.data());
  std::vector<unsigned char> bytes(1 + numbers.size() * sizeof(float));
  std::copy_n(begin, bytes.size() - 1, bytes.begin() + 1);
  return bytes;
}

void CheckRowFunctions(Source& source) {
  const std::int64_t count = source.Dim();
  const Floats a = source.SomeFloats(count);
  const Floats b = source.SomeFloats(count);
  const Halves halves = source.SomeHalves(count);
  const std::vector<unsigned char> bytes = Shifted(b);
  const float factor = source.Float();
  CheckAgree(source.exact(), [&](const simd::Level& simd) {
    Floats answer(Size(count));
    simd.halves_to_floats(halves.data(), answer.data(), Size(count));
    return answer;
  });
  CheckAgree(source.exact(), [&](const simd::Level& simd) {
    Floats answer = a;
    simd.add_scaled_halves(factor, halves.data(), answer.data(), Size(count));
    return answer;
  });
  CheckAgree(source.exact(), [&](const simd::Level& simd) {
    const simd::Compared compared = simd.compare(a.data(), halves.data(), Size(count));
    return Floats{compared.difference, compared.norm, simd.distance(a.data(), bytes.data() + 1, Size(count)),
                  simd.inner_product(a.data(), bytes.data() + 1, Size(count))};
  });
}

// The matrices have gaps after each row but the last, as parts of larger ones have.
void CheckMatrixFunctions(Source& source) {
  const std::int64_t rows = source.Dim() % 32;
  const std::int64_t depth = source.Dim();
  const std::int64_t columns = source.Dim();
  const std::int64_t gap = source.Below(4);
  const std::int64_t stride = columns + gap;
  const auto wide = [&](std::int64_t height, std::int64_t width) {
    return source.SomeFloats(height * width == 0 ? 0 : (height - 1) * (width + gap) + width);
  };
  const Floats a = wide(rows, depth);
  const Halves halves = source.SomeHalves(rows * depth);
  const Floats b = wide(depth, columns);
  const Floats before = wide(rows, columns);
  const Floats query = source.SomeFloats(depth);
  CheckAgree(source.exact(), [&](const simd::Level& simd) {
    Floats answer = before;
    simd.add_product(a.data(), Size(rows), Size(depth), Size(depth + gap), b.data(), Size(stride), Size(columns),
                     answer.data(), Size(stride));
    return answer;
  });
  CheckAgree(source.exact(), [&](const simd::Level& simd) {
    Floats answer = before;
    simd.add_half_product(halves.data(), Size(rows), Size(depth), b.data(), Size(stride), Size(columns), answer.data(),
                          Size(stride));
    return answer;
  });
  CheckAgree(source.exact(), [&](const simd::Level& simd) {
    Floats answer(Size(columns));
    if (depth == 0) return answer;
    const float least =
        simd.column_distances(query.data(), Size(depth), b.data(), Size(stride), Size(columns), answer.data());
    answer.push_back(least);
    return answer;
  });
}

// Stored keys and values, of which every other token is packed again, give what the same floats give.
void CheckAttention(Source& source) {
  const std::size_t count = Size(1 + source.Dim());
  const std::size_t key_width = Size(source.Below(40));
  const std::size_t value_width = Size(1 + source.Below(70));
  const std::size_t queries = std::min<std::size_t>(count, 13);  // more than a tile has
  const Halves keys = source.SomeHalves(static_cast<std::int64_t>(key_width * count));
  const Halves values = source.SomeHalves(static_cast<std::int64_t>(count * value_width));
  const std::size_t stride = key_width + value_width;
  Floats rows = source.SomeFloats(static_cast<std::int64_t>(count * stride));
  for (std::size_t j = 0; j < count; j += 2) {
    for (std::size_t i = 0; i < key_width; ++i) rows[j * stride + i] = NaiveHalf(keys[i * count + j]);
    for (std::size_t i = 0; i < value_width; ++i) {
      rows[j * stride + key_width + i] = NaiveHalf(values[j * value_width + i]);
    }
  }
  const simd::AttendedHead head = {count, key_width, value_width, rows.data(), rows.data() + key_width, stride};
  Floats bias(simd::WholePanels(count), -std::numeric_limits<float>::infinity());
  std::fill_n(bias.begin(), count, 0.0F);
  for (const simd::Level* level : simd::Supported()) {
    const auto context = [&](const Floats& packed) {
      Floats tile(head.tile()), answer(queries * value_width);
      level->attend(head, packed.data(),
                    {queries, rows.data(), stride, 0.1F, bias.data(), 0, answer.data(), value_width}, tile.data());
      return answer;
    };
    Floats packed(head.packed()), stored(head.packed());
    level->pack_head(head, packed.data());
    level->pack_stored(head, {keys.data(), values.data()}, stored.data());
    for (std::size_t j = 1; j < count; j += 2) {
      level->repack_token(head, j, &rows[j * stride], 1, &rows[j * stride + key_width], stored.data());
    }
    const Floats expected = context(packed);
    const Floats answer = context(stored);
    CHECK(!source.exact() || answer == expected);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Source source(data, size);
  CheckRowFunctions(source);
  CheckMatrixFunctions(source);
  CheckAttention(source);
  return 0;
}
