// MemoAttention's core against its definition, and what it refuses.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/memo_attention.h"
#include "tests/check.h"
#include "tests/naive.h"

namespace onnx_memo::testing {
namespace {

constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

using Request = AttentionCase;

Floats Run(const Request& request) {
  Floats output(Size(request.heads * request.running() * request.value_width), -1.0F);
  const FreshHeads fresh{{request.query.data(), {request.heads, request.running(), request.key_width}},
                         {request.key.data(), {request.heads, request.key_width, request.running()}},
                         {request.value.data(), {request.heads, request.running(), request.value_width}}};
  const StoredHeads stored{Matrix(request.keys, request.stored_rows, request.heads * request.key_width),
                           Matrix(request.values, request.stored_rows, request.heads * request.value_width),
                           Vector(request.offsets)};
  const Ragged ragged(Vector(request.rows), Vector(request.entry), Vector(request.length), request.padded_length,
                      stored.offsets.dims[0]);
  const AttentionJob job(fresh, ragged, stored, request.scale, {request.bias.data(), request.bias_dims},
                         {output.data(), fresh.value.dims});
  for (std::size_t task = 0; task < job.tasks(); ++task) job.Run(task);
  return output;
}

std::string Refusal(const Request& request) {
  return Message<InvalidArgument>([&] { Run(request); });
}

void CheckRequest(const Request& request) {
  const Floats output = Run(request);
  for (std::int64_t h = 0; h < request.heads; ++h) {
    for (std::int64_t r = 0; r < request.running(); ++r) {
      const std::vector<double> expected = NaiveAttention(request, h, r);
      for (std::size_t i = 0; i < expected.size(); ++i) {
        const float x = output[Size((h * request.running() + r) * request.value_width) + i];
        CHECK(std::abs(static_cast<double>(x) - expected[i]) < 1e-5 * (1 + std::abs(expected[i])));
      }
    }
  }
}

struct Shape {
  std::int64_t heads, key_width, value_width;
};

// A batch over two entries of n and 1 tokens and a sequence without, of which every `step`th token runs.
Request Mixed(std::mt19937& random, std::int64_t n, std::int64_t padded, std::int64_t step, Shape shape,
              std::array<bool, 4> full) {
  Request request{{},
                  {0, -1, 1, 0},
                  {n, std::min<std::int64_t>(n, 3), 1, n},
                  padded,
                  shape.heads,
                  shape.key_width,
                  shape.value_width,
                  {},
                  {},
                  {},
                  n + 1,
                  {},
                  {},
                  {1, 0},
                  0.3F,
                  {1, 1, 1, 1},
                  {}};
  for (std::int64_t b = 0; b < 4; ++b) {
    for (std::int64_t t = 0; t < request.length[Size(b)]; ++t) {
      if (request.entry[Size(b)] < 0 || (step > 0 && t % step == b % step)) request.rows.push_back(b * padded + t);
    }
  }
  const std::int64_t sizes[] = {4, shape.heads, padded, padded};
  std::int64_t numbers = 1;
  for (std::size_t i = 0; i < 4; ++i) numbers *= request.bias_dims[i] = full[i] ? sizes[i] : 1;
  request.bias = RandomFloats(random, Size(numbers));
  request.query = RandomFloats(random, Size(shape.heads * request.running() * shape.key_width));
  request.key = RandomFloats(random, Size(shape.heads * request.running() * shape.key_width));
  request.value = RandomFloats(random, Size(shape.heads * request.running() * shape.value_width));
  request.keys = RandomHalves(random, Size((n + 1) * shape.heads * shape.key_width));
  request.values = RandomHalves(random, Size((n + 1) * shape.heads * shape.value_width));
  return request;
}

TEST(attention_of_a_mixed_batch) {
  std::mt19937 random(1);
  for (const std::int64_t n : {1, 2, 7, 16, 33, 70}) {
    for (const std::int64_t step : {0, 1, 3, 20}) {
      for (const Shape shape : {Shape{1, 1, 1}, Shape{3, 8, 20}, Shape{2, 32, 16}}) {
        CheckRequest(Mixed(random, n, std::max<std::int64_t>(n, 3), step, shape, {false, false, false, true}));
        CheckRequest(Mixed(random, n, n + 3, step, shape, {true, false, false, true}));
      }
    }
  }
}

TEST(attention_broadcasts_the_bias_in_every_dimension) {
  std::mt19937 random(2);
  for (unsigned bits = 0; bits < 16; ++bits) {
    const std::array<bool, 4> full = {(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0};
    CheckRequest(Mixed(random, 9, 11, 2, {3, 4, 5}, full));
  }
}

TEST(attention_of_several_blocks_of_rows_is_complete) {
  std::mt19937 random(3);
  CheckRequest(Mixed(random, 60, 60, 1, {2, 8, 8}, {false, false, false, true}));
  CheckRequest(Mixed(random, 131, 140, 1, {2, 8, 8}, {false, false, true, true}));
}

TEST(attention_where_nothing_runs_reads_nothing) {
  Request request{{}, {0}, {5}, 5, 2, 4, 4, {}, {}, {}, 5, Halves(40), Halves(40), {0}, 1.0F, {1, 1, 1, 1}, {0}};
  CHECK(Run(request).empty());
  request.entry = {};
  request.length = {};
  CHECK(Run(request).empty());
  request.bias_dims = {0, 2, 5, 5};
  CHECK(Run(request).empty());
}

TEST(attention_without_heads_or_width) {
  std::mt19937 random(4);
  CHECK(Run(Mixed(random, 5, 5, 2, {0, 4, 4}, {})).empty());
  CHECK(Run(Mixed(random, 5, 5, 2, {2, 4, 0}, {})).empty());
  CheckRequest(Mixed(random, 5, 5, 2, {2, 0, 4}, {false, false, false, true}));
}

TEST(attention_never_looks_at_tokens_of_bias_minus_infinity) {
  std::mt19937 random(5);
  for (const float masked : {-kInfinity, std::numeric_limits<float>::lowest(), -1e4F}) {
    Request request = Mixed(random, 20, 24, 4, {2, 8, 8}, {false, false, false, true});
    for (std::size_t j = 0; j < 24; j += 2) request.bias[j] = masked;
    request.entry[2] = 0;  // the entry of one token would have all of its tokens masked
    request.length[2] = 20;
    CheckRequest(request);
  }
}

TEST(attention_of_a_row_whose_bias_is_all_the_lowest_float_is_the_mean) {
  const float lowest = std::numeric_limits<float>::lowest();
  const Request request{
      {0}, {0}, {2}, 2, 1, 1, 1, {1}, {3}, {4}, 2, {0, 0x3C00}, {0, 0x4000}, {0}, 1.0F, {1, 1, 1, 2}, {lowest, lowest}};
  CHECK(Run(request) == Floats({3.0F}));
}

TEST(attention_of_a_row_whose_scores_are_all_minus_infinity_is_nan) {
  Request request{{0}, {0}, {2}, 2, 1, 1, 1, {1}, {3}, {4}, 2, {0, 0}, {0, 0}, {0}, 1.0F, {1, 1, 1, 1}, {-kInfinity}};
  CHECK(std::isnan(Run(request)[0]));
}

TEST(attention_does_not_read_the_stored_rows_of_tokens_that_run) {
  const Request request{{1}, {0},  {2},          2,  1, 1, 1, {1}, {0}, {4}, 2, {0, 0x7E00}, {0x4000, 0x7C00},
                        {0}, 1.0F, {1, 1, 1, 1}, {0}};
  CHECK(Run(request) == Floats({3.0F}));
}

TEST(attention_refuses_rows_outside_the_payload) {
  for (const std::int64_t offset : {std::int64_t{-1}, std::int64_t{1}, std::int64_t{3}, kHuge, -kHuge - 1}) {
    const Request request{{0},      {0},  {2},          2,  1, 1, 1, {1}, {3}, {4}, 2, {0, 0}, {0, 0},
                          {offset}, 1.0F, {1, 1, 1, 1}, {0}};
    CHECK_SAYS(Refusal(request),
               "entry 0 owns 2 of 'keys' from " + std::to_string(offset) + " on, but that ends after 2");
  }
  const Request idle{{}, {0}, {3}, 3, 1, 1, 1, {}, {}, {}, 2, {0, 0}, {0, 0}, {0}, 1.0F, {1, 1, 1, 1}, {0}};
  CHECK_SAYS(Refusal(idle), "owns 3 of 'keys'");
}

TEST(attention_refuses_a_bias_that_does_not_fit) {
  std::mt19937 random(6);
  for (std::size_t i = 0; i < 4; ++i) {
    for (const std::int64_t dim : {0, 2, 6}) {
      Request request = Mixed(random, 5, 5, 2, {3, 4, 4}, {});
      request.bias_dims[i] = dim;
      CHECK_SAYS(Refusal(request), "dimension " + std::to_string(i) + " of 'bias' is " + std::to_string(dim));
    }
  }
}

// Two heads of 3 and 4 wide keys and values, one row that runs, 5 stored ones.
TEST(attention_refuses_shapes_that_do_not_fit) {
  const Integers rows = {0};
  const Integers zero = {0};
  const Integers length = {5};
  const Ragged ragged(Vector(rows), Vector(zero), Vector(length), 5, 1);
  const auto refusal = [&](auto change) {
    FreshHeads fresh{{nullptr, {2, 1, 3}}, {nullptr, {2, 3, 1}}, {nullptr, {2, 1, 4}}};
    StoredHeads stored{{nullptr, {5, 6}}, {nullptr, {5, 8}}, Vector(zero)};
    change(fresh, stored);
    return Message<InvalidArgument>(
        [&] { AttentionJob(fresh, ragged, stored, 1.0F, {nullptr, {1, 1, 1, 1}}, {nullptr, fresh.value.dims}); });
  };
  CHECK(refusal([](FreshHeads&, StoredHeads&) {}) == "nothing thrown");
  CHECK_SAYS(refusal([](FreshHeads& f, StoredHeads&) { f.query.dims[1] = 2; }), "'query' does not fit");
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK_SAYS(refusal([i](FreshHeads& f, StoredHeads&) { ++f.key.dims[i]; }), "'key' does not fit");
  }
  CHECK_SAYS(refusal([](FreshHeads& f, StoredHeads&) { ++f.value.dims[0]; }), "'value' does not fit");
  CHECK_SAYS(refusal([](FreshHeads& f, StoredHeads&) { ++f.value.dims[1]; }), "'value' does not fit");
  CHECK_SAYS(refusal([](FreshHeads& f, StoredHeads&) { ++f.value.dims[2]; }), "'values' does not fit");
  CHECK_SAYS(refusal([](FreshHeads&, StoredHeads& s) { ++s.keys.dims[1]; }), "'keys' does not fit");
  CHECK_SAYS(refusal([](FreshHeads&, StoredHeads& s) { ++s.values.dims[1]; }), "'values' does not fit");
  CHECK_SAYS(refusal([](FreshHeads&, StoredHeads& s) { ++s.values.dims[0]; }), "with the rows of 'keys'");
  CHECK_SAYS(refusal([](FreshHeads& f, StoredHeads&) {
               f.query.dims = {kHuge, 1, kHuge};
               f.key.dims = {kHuge, kHuge, 1};
               f.value.dims[0] = kHuge;
             }),
             "too large");
}

}  // namespace
}  // namespace onnx_memo::testing
