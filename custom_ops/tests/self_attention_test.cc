// MemoSelfAttention's core against its definition, on every level of the loops, and what it refuses.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/memo_self_attention.h"
#include "tests/check.h"
#include "tests/naive.h"

namespace onnx_memo::testing {
namespace {

constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

using Request = SelfAttentionCase;

Floats RunSome(const Request& request, const Integers& asking, const simd::Level& level = simd::Best()) {
  const auto count = static_cast<std::int64_t>(asking.size());
  Floats context(Size(count * request.heads * request.value_width), -7.0F);
  const Integers heads = {request.heads, request.key_width, request.value_width};
  const SelfAttentionJob job({Matrix(request.qkv, request.count(), request.width()),
                              Vector(heads),
                              Vector(request.rows),
                              Vector(asking),
                              request.padded_length,
                              request.scale,
                              {request.bias.data(), request.bias_dims}},
                             level);
  CHECK(job.shape()[0] == count && job.shape()[1] == request.heads * request.value_width);
  for (std::size_t task = job.tasks(); task-- > 0;) job.Run(task, context.data());
  return context;
}

Floats Run(const Request& request, const simd::Level& level = simd::Best()) {
  return RunSome(request, request.rows, level);
}

std::string Refusal(const Request& request) {
  return Message<InvalidArgument>([&] { Run(request); });
}

void CheckNumbers(const Request& request, const Floats& context) {
  const float* number = context.data();
  for (std::int64_t r = 0; r < request.count(); ++r) {
    for (std::int64_t h = 0; h < request.heads; ++h) {
      for (const double expected : NaiveSelfAttention(request, h, r)) {
        CHECK(std::abs(static_cast<double>(*number++) - expected) < 1e-5 * (1 + std::abs(expected)));
      }
    }
  }
  CHECK(number == context.data() + context.size());
}

void CheckRequest(const Request& request) {
  for (const simd::Level* level : simd::Supported()) CheckNumbers(request, Run(request, *level));
}

struct Shape {
  std::int64_t heads, key_width, value_width;
};

Request Random(std::mt19937& random, Integers rows, std::int64_t padded, Shape shape, std::array<bool, 4> full) {
  Request request{shape.heads, shape.key_width, shape.value_width, std::move(rows), padded, 0.3F, {}, {}, {}};
  const std::int64_t batch = request.rows.empty() ? 1 : request.rows.back() / padded + 1;
  const std::int64_t sizes[] = {batch, shape.heads, padded, padded};
  std::int64_t numbers = 1;
  for (std::size_t i = 0; i < 4; ++i) numbers *= request.bias_dims[i] = full[i] ? sizes[i] : 1;
  request.bias = RandomFloats(random, Size(numbers));
  request.qkv = RandomFloats(random, Size(request.count() * request.width()));
  return request;
}

Integers Range(std::int64_t begin, std::int64_t end) {
  Integers numbers;
  for (std::int64_t number = begin; number < end; ++number) numbers.push_back(number);
  return numbers;
}

constexpr std::array<bool, 4> kMask = {true, false, false, true};

TEST(self_attention_of_one_sequence_of_any_length_and_width) {
  std::mt19937 random(1);
  for (const Shape shape : {Shape{1, 1, 1}, Shape{2, 5, 7}, Shape{2, 32, 32}, Shape{1, 67, 33}, Shape{3, 8, 20}}) {
    for (const std::int64_t n : {1, 2, 4, 7, 8, 9, 12, 13, 16, 17, 18, 32, 33, 49, 70, 131}) {
      CheckRequest(Random(random, Range(0, n), n, shape, kMask));
    }
  }
}

// Whole, padded on the right, on the left, without any row, with holes, one row.
Integers Mixed() {
  Integers rows = Range(0, 40);
  for (const auto& [begin, end] : {std::pair{40, 73}, {81, 120}}) {
    for (const std::int64_t row : Range(begin, end)) rows.push_back(row);
  }
  for (std::int64_t t = 0; t < 40; ++t) {
    if (t % 3 != 1) rows.push_back(160 + t);
  }
  rows.push_back(239);
  return rows;
}

TEST(self_attention_of_a_batch_with_padding_and_holes) {
  std::mt19937 random(2);
  for (unsigned bits = 0; bits < 16; ++bits) {
    const std::array<bool, 4> full = {(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0};
    CheckRequest(Random(random, Mixed(), 40, {3, 4, 5}, full));
  }
}

TEST(a_sequence_is_the_same_alone_in_a_batch_and_padded) {
  std::mt19937 random(3);
  for (const simd::Level* level : simd::Supported()) {
    for (const std::int64_t heads : {1, 9}) {
      const Request batch = Random(random, Mixed(), 40, {heads, 20, 17}, {});
      const Floats all = Run(batch, *level);
      for (std::int64_t b = 0; b < 6; ++b) {
        const auto begin = std::lower_bound(batch.rows.begin(), batch.rows.end(), b * 40) - batch.rows.begin();
        const auto end = std::lower_bound(batch.rows.begin(), batch.rows.end(), b * 40 + 40) - batch.rows.begin();
        Request alone = batch;
        alone.rows = Range(0, end - begin);
        alone.padded_length = std::max<std::int64_t>(1, end - begin);
        alone.qkv.assign(batch.qkv.begin() + begin * batch.width(), batch.qkv.begin() + end * batch.width());
        const Floats one = Run(alone, *level);
        CHECK(one.size() == Size((end - begin) * heads * 17));
        CHECK(one.empty() || std::memcmp(one.data(), &all[Size(begin * heads * 17)], one.size() * sizeof(float)) == 0);
      }
    }
  }
}

TEST(a_query_is_the_same_wherever_it_stands_among_others) {
  std::mt19937 random(4);
  for (const simd::Level* level : simd::Supported()) {
    Request request = Random(random, Range(0, 70), 70, {1, 33, 18}, {});
    for (std::int64_t r = 1; r < 70; ++r) {
      std::copy_n(request.qkv.begin(), 33, request.qkv.begin() + r * request.width());
    }
    const Floats context = Run(request, *level);
    for (std::size_t r = 1; r < 70; ++r) {
      CHECK(std::memcmp(&context[r * 18], context.data(), 18 * sizeof(float)) == 0);
    }
  }
}

TEST(sequences_far_apart_cost_nothing) {
  std::mt19937 random(5);
  Request request = Random(random, {0, 1}, 2, {2, 3, 4}, {});
  request.rows = {1, kHuge - 1};
  CheckRequest(request);
  request.padded_length = kHuge;
  CheckRequest(request);
}

TEST(no_rows_have_no_context) {
  std::mt19937 random(6);
  for (const std::int64_t padded : {0, 5}) {
    Request request = Random(random, {}, 5, {2, 3, 4}, {});
    request.padded_length = padded;
    CHECK(Run(request).empty());
    request.bias_dims = {0, 2, padded, padded};
    CHECK(Run(request).empty());
  }
}

TEST(self_attention_never_looks_at_tokens_of_bias_minus_infinity) {
  std::mt19937 random(7);
  for (const float masked : {-kInfinity, std::numeric_limits<float>::lowest(), -1e4F}) {
    Request request = Random(random, Range(0, 20), 20, {2, 8, 8}, {false, false, false, true});
    for (std::size_t j = 0; j < 20; j += 2) request.bias[j] = masked;
    CheckRequest(request);
    for (const simd::Level* level : simd::Supported()) {
      const Floats before = Run(request, *level);
      for (std::size_t j = 0; j < 20; j += 2) request.qkv[(j + 1) * Size(request.width()) - 1] = 1e30F;
      CHECK(Run(request, *level) == before);
    }
  }
}

TEST(self_attention_of_a_row_whose_bias_is_all_the_lowest_float_is_the_mean) {
  const float lowest = std::numeric_limits<float>::lowest();
  const Request request{1, 1, 1, {0, 1}, 2, 1.0F, {1, 1, 1, 2}, {lowest, lowest}, {1, 1, 2, 1, 1, 4}};
  for (const simd::Level* level : simd::Supported()) CHECK(Run(request, *level) == Floats({3, 3}));
}

bool AllNan(const float* numbers, std::size_t count) {
  return std::all_of(numbers, numbers + count, [](float x) { return std::isnan(x); });
}

TEST(self_attention_of_a_row_whose_scores_are_all_minus_infinity_is_nan) {
  std::mt19937 random(8);
  for (const std::int64_t n : {1, 16, 37}) {
    Request request = Random(random, Range(0, n), n, {1, 4, 4}, {});
    request.bias = {-kInfinity};
    for (const simd::Level* level : simd::Supported()) CHECK(AllNan(Run(request, *level).data(), Size(n * 4)));
  }
}

TEST(a_query_that_broke_breaks_its_row_alone) {
  std::mt19937 random(9);
  for (const float broken : {kInfinity, -kInfinity, kNan}) {
    Request request = Random(random, Range(0, 19), 19, {1, 5, 4}, {});
    for (const simd::Level* level : simd::Supported()) {
      request.qkv[Size(7 * request.width() + 4)] = 0.5F;
      const Floats before = Run(request, *level);
      request.qkv[Size(7 * request.width() + 4)] = broken;
      const Floats context = Run(request, *level);
      for (std::size_t i = 0; i < context.size(); ++i) {
        CHECK(i / 4 == 7 ? std::isnan(context[i]) : context[i] == before[i]);
      }
    }
  }
}

TEST(a_key_or_value_that_broke_breaks_its_sequence_alone) {
  std::mt19937 random(10);
  for (const std::int64_t place : {4, 8}) {  // of a key, of a value
    Request request = Random(random, Range(0, 40), 20, {1, 4, 1}, {});
    for (const simd::Level* level : simd::Supported()) {
      request.qkv[Size(39 * request.width() + place)] = 0.5F;
      const Floats before = Run(request, *level);
      request.qkv[Size(39 * request.width() + place)] = kNan;
      const Floats context = Run(request, *level);
      CHECK(std::equal(context.begin(), context.begin() + 20, before.begin()));
      CHECK(AllNan(&context[20], 20));
    }
  }
}

TEST(rows_that_ask_get_what_they_would_get_among_all) {
  std::mt19937 random(13);
  Integers rows = Range(3, 140);
  rows.erase(rows.begin() + 20);
  for (const std::int64_t padded : {140, 40, 7}) {
    const Request request = Random(random, rows, padded, {2, 32, 20}, {true, false, true, true});
    for (const simd::Level* level : simd::Supported()) {
      const Floats all = Run(request, *level);
      for (const Integers& places : {Integers{}, {0}, {135}, {0, 1, 2, 19, 20, 21, 90}, Range(0, 70), Range(61, 136)}) {
        Integers asking;
        Floats expected;
        for (const std::int64_t place : places) {
          asking.push_back(rows[Size(place)]);
          expected.insert(expected.end(), all.begin() + place * 40, all.begin() + (place + 1) * 40);
        }
        CHECK(RunSome(request, asking, *level) == expected);
      }
    }
  }
}

TEST(self_attention_refuses_rows_that_ask_and_are_not_there) {
  std::mt19937 random(14);
  const Request request = Random(random, {1, 2, 5}, 3, {1, 1, 1}, {});
  const auto with = [&](const Integers& asking) { return Message<InvalidArgument>([&] { RunSome(request, asking); }); };
  CHECK_SAYS(with({0}), "'asking' holds 0 at 0, which is not among what is left of 'rows'");
  CHECK_SAYS(with({1, 3}), "'asking' holds 3 at 1");
  CHECK_SAYS(with({2, 1}), "'asking' holds 1 at 1");
  CHECK_SAYS(with({2, 2}), "'asking' holds 2 at 1");
  CHECK_SAYS(with({1, 2, 5, 5}), "'asking' holds 5 at 3");
  CHECK_SAYS(with({kHuge}), "it must rise");
}

TEST(self_attention_refuses_rows_that_do_not_rise_or_have_no_length) {
  std::mt19937 random(11);
  const Request request = Random(random, {0, 1}, 2, {1, 1, 1}, {});
  const auto with = [&](Integers rows, std::int64_t padded) {
    Request other = request;
    other.rows = std::move(rows);
    other.padded_length = padded;
    return Refusal(other);
  };
  CHECK_SAYS(with({-1, 1}, 2), "'rows' holds -1 at 0, where more than -1 was expected");
  CHECK_SAYS(with({1, 1}, 2), "'rows' holds 1 at 1, where more than 1");
  CHECK_SAYS(with({kHuge, 0}, 2), "rows are not negative and rise");
  CHECK_SAYS(with({0, -kHuge - 1}, 2), "rows are not negative and rise");
  CHECK_SAYS(with({0, 1}, 0), "'padded_length' is 0");
  CHECK_SAYS(with({0, 1}, -kHuge - 1), "'padded_length' is");
}

TEST(self_attention_refuses_a_bias_that_does_not_fit) {
  std::mt19937 random(12);
  const auto with = [&](std::size_t i, std::int64_t dim) {
    Request request = Random(random, {0, 7}, 5, {3, 4, 4}, {});
    request.bias_dims[i] = dim;
    return Refusal(request);
  };
  CHECK_SAYS(with(0, 0), "dimension 0 of 'bias' is 0; it must be 1 or above 1");
  for (std::size_t i = 1; i < 4; ++i) {
    for (const std::int64_t dim : {0, 2, 6}) {
      CHECK_SAYS(with(i, dim), "dimension " + std::to_string(i) + " of 'bias' is " + std::to_string(dim));
    }
  }
  Request longer = Random(random, {0, 7}, 5, {3, 4, 4}, {true, false, false, false});
  longer.bias_dims[0] = 3;  // its last sequence has no rows
  longer.bias.push_back(0);
  CheckRequest(longer);
}

TEST(self_attention_refuses_shapes_that_do_not_fit) {
  const auto refusal = [](const Integers& heads, std::array<std::int64_t, 2> qkv, std::int64_t rows) {
    const Integers numbers = Range(0, rows);
    return Message<InvalidArgument>([&] {
      SelfAttentionJob(
          {{nullptr, qkv}, Vector(heads), Vector(numbers), Vector(numbers), 9, 1.0F, {nullptr, {1, 1, 1, 1}}},
          simd::Best());
    });
  };
  CHECK(refusal({2, 3, 4}, {5, 20}, 5) == "nothing thrown");
  CHECK_SAYS(refusal({2, 3}, {5, 20}, 5), "'heads' holds 2 numbers");
  CHECK_SAYS(refusal({2, 3, 4}, {5, 21}, 5), "'qkv' is 21 wide; for 2 heads of 3 and 4 give 20");
  CHECK_SAYS(refusal({2, 3, 4}, {5, 20}, 4), "'qkv' holds 5 rows and 'rows' 4");
  for (const Integers& heads : {Integers{0, 3, 4}, {2, 0, 4}, {2, 3, 0}, {-2, 3, 4}, {2, -3, 4}, {2, 3, -kHuge - 1}}) {
    CHECK_SAYS(refusal(heads, {0, 0}, 0), "give three positive numbers");
  }
  for (const Integers& heads : {Integers{kHuge, 3, 4}, {2, kHuge, 4}, {2, 3, kHuge}}) {
    CHECK_SAYS(refusal(heads, {0, 0}, 0), "too large");
  }
}

}  // namespace
}  // namespace onnx_memo::testing
