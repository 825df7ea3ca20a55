// The core of MemoAttention and MemoRowsAttention against its definition, and what it refuses.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/attention_job.h"
#include "tests/check.h"
#include "tests/naive.h"

namespace onnx_memo::testing {
namespace {

constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

using Request = AttentionCase;

void Run(const Request& request, const Heads& fresh, Strided<float> output) {
  const StoredHeads stored{Matrix(request.keys, request.stored_rows, request.heads * request.key_width),
                           Matrix(request.values, request.stored_rows, request.heads * request.value_width),
                           Vector(request.offsets)};
  const Ragged ragged(Vector(request.rows), Vector(request.entry), Vector(request.length), request.padded_length,
                      stored.offsets.dims[0]);
  const AttentionJob job(fresh, ragged, stored, request.scale, {request.bias.data(), request.bias_dims}, output);
  for (std::size_t task = 0; task < job.tasks(); ++task) job.Run(task);
}

// The context [H, R, dv].
Floats Run(const Request& request) {
  const std::int64_t heads = request.heads;
  const std::int64_t running = request.running();
  const Heads fresh = Apart({request.query.data(), {heads, running, request.key_width}},
                            {request.key.data(), {heads, request.key_width, running}},
                            {request.value.data(), {heads, running, request.value_width}});
  Floats output(Size(heads * running * request.value_width), -1.0F);
  Run(request, fresh, {output.data(), 0, running * request.value_width, request.value_width});
  return output;
}

// The context [R, H * dv] of queries, keys and values side by side.
Floats RunSideBySide(const Request& request) {
  const Integers heads = {request.heads, request.key_width, request.value_width};
  const Floats qkv = NaiveSideBySide(request);
  const std::int64_t width = request.heads * request.value_width;
  Floats output(Size(request.running() * width), -1.0F);
  const std::int64_t fresh_width = 2 * request.heads * request.key_width + width;
  Run(request, SideBySide(Matrix(qkv, request.running(), fresh_width), Vector(heads)),
      {output.data(), 0, request.value_width, width});
  return output;
}

std::string Refusal(const Request& request) {
  return Message<InvalidArgument>([&] { Run(request); });
}

bool Near(float x, double expected) {
  return std::abs(static_cast<double>(x) - expected) < 1e-5 * (1 + std::abs(expected));
}

void CheckRequest(const Request& request) {
  const bool has_keys = request.key_width > 0;  // else they cannot lie side by side
  const Floats output = Run(request);
  const Floats side_by_side = has_keys ? RunSideBySide(request) : Floats();
  for (std::int64_t h = 0; h < request.heads; ++h) {
    for (std::int64_t r = 0; r < request.running(); ++r) {
      const std::vector<double> expected = NaiveAttention(request, h, r);
      for (std::size_t i = 0; i < expected.size(); ++i) {
        CHECK(Near(output[Size((h * request.running() + r) * request.value_width) + i], expected[i]));
        if (!has_keys) continue;
        CHECK(Near(side_by_side[Size((r * request.heads + h) * request.value_width) + i], expected[i]));
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

// All of the memory that a thread keeps is NaN before.
TEST(attention_of_a_sequence_without_entry_does_not_see_what_ran_before) {
  std::mt19937 random(8);
  Request broken = Mixed(random, 70, 70, 1, {1, 16, 16}, {false, false, false, true});
  for (float& number : broken.key) number = std::numeric_limits<float>::quiet_NaN();
  for (float& number : broken.value) number = std::numeric_limits<float>::quiet_NaN();
  CHECK(std::isnan(Run(broken)[0]));
  const Request alone{{0, 1}, {-1}, {2}, 2, 1, 1, 1, {1, 1}, {3, 3}, {4, 8}, 0, {}, {}, {}, 1.0F, {1, 1, 1, 1}, {0}};
  CHECK(Run(alone) == Floats({6.0F, 6.0F}));
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
  struct Fresh {
    View<const float, 3> query{nullptr, {2, 1, 3}}, key{nullptr, {2, 3, 1}}, value{nullptr, {2, 1, 4}};
  };
  const auto refusal = [&](auto change) {
    Fresh fresh;
    StoredHeads stored{{nullptr, {5, 6}}, {nullptr, {5, 8}}, Vector(zero)};
    change(fresh, stored);
    return Message<InvalidArgument>([&] {
      AttentionJob(Apart(fresh.query, fresh.key, fresh.value), ragged, stored, 1.0F, {nullptr, {1, 1, 1, 1}}, {});
    });
  };
  CHECK(refusal([](Fresh&, StoredHeads&) {}) == "nothing thrown");
  CHECK_SAYS(refusal([](Fresh& f, StoredHeads&) { f.query.dims[1] = f.key.dims[2] = f.value.dims[1] = 2; }),
             "'rows' holds 1 rows, and there are queries of 2");
  CHECK_SAYS(refusal([](Fresh& f, StoredHeads&) { f.query.dims[1] = 2; }), "'key' does not fit");
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK_SAYS(refusal([i](Fresh& f, StoredHeads&) { ++f.key.dims[i]; }), "'key' does not fit");
  }
  CHECK_SAYS(refusal([](Fresh& f, StoredHeads&) { ++f.value.dims[0]; }), "'value' does not fit");
  CHECK_SAYS(refusal([](Fresh& f, StoredHeads&) { ++f.value.dims[1]; }), "'value' does not fit");
  CHECK_SAYS(refusal([](Fresh& f, StoredHeads&) { ++f.value.dims[2]; }), "'values' does not fit");
  CHECK_SAYS(refusal([](Fresh&, StoredHeads& s) { ++s.keys.dims[1]; }), "'keys' does not fit");
  CHECK_SAYS(refusal([](Fresh&, StoredHeads& s) { ++s.values.dims[1]; }), "'values' does not fit");
  CHECK_SAYS(refusal([](Fresh&, StoredHeads& s) { ++s.values.dims[0]; }), "with the rows of 'keys'");
  CHECK_SAYS(refusal([](Fresh& f, StoredHeads&) {
               f.query.dims = {kHuge, 1, kHuge};
               f.key.dims = {kHuge, kHuge, 1};
               f.value.dims[0] = kHuge;
             }),
             "too large");
}

// Two heads of 3 and 4 wide keys and values: 20 numbers a row.
TEST(attention_side_by_side_refuses_sizes_that_do_not_fit) {
  const auto refusal = [](std::int64_t width, const Integers& heads) {
    return Message<InvalidArgument>([&] { SideBySide({nullptr, {0, width}}, Vector(heads)); });
  };
  CHECK(refusal(20, {2, 3, 4}) == "nothing thrown");
  CHECK_SAYS(refusal(21, {2, 3, 4}), "'qkv' is 21 wide; for 2 heads of 3 and 4 give 20");
  CHECK_SAYS(refusal(20, {}), "'heads' holds 0 numbers");
  CHECK_SAYS(refusal(20, {2, 3, 4, 5}), "'heads' holds 4 numbers");
  for (std::size_t i = 0; i < 3; ++i) {
    for (const std::int64_t number : {std::int64_t{0}, std::int64_t{-1}, -kHuge - 1}) {
      Integers heads = {2, 3, 4};
      heads[i] = number;
      CHECK_SAYS(refusal(20, heads), "give three positive numbers");
      heads[i] = kHuge;
      CHECK_SAYS(refusal(20, heads), "too large");
    }
  }
}

TEST(attention_of_a_sequence_is_the_same_alone_and_in_a_batch) {
  std::mt19937 random(7);
  const Request request = Mixed(random, 70, 75, 3, {2, 16, 24}, {false, false, false, true});
  const Floats batch = RunSideBySide(request);
  std::int64_t first = 0;
  for (std::size_t b = 0; b < request.entry.size(); ++b) {
    Request alone = request;
    alone.rows.clear();
    for (const std::int64_t row : request.rows) {
      if (row / 75 == static_cast<std::int64_t>(b)) alone.rows.push_back(row % 75);
    }
    alone.entry = {request.entry[b]};
    alone.length = {request.length[b]};
    const auto cut = [&](Floats& numbers, std::int64_t width, bool turned) {
      Floats own;
      const std::int64_t outer = request.heads * (turned ? width : 1);
      const std::int64_t inner = turned ? 1 : width;
      for (std::int64_t i = 0; i < outer; ++i) {
        const auto begin = numbers.begin() + (i * request.running() + first) * inner;
        own.insert(own.end(), begin, begin + alone.running() * inner);
      }
      numbers = own;
    };
    cut(alone.query, 16, false);
    cut(alone.key, 16, true);
    cut(alone.value, 24, false);
    const Floats context = RunSideBySide(alone);
    CHECK(std::equal(context.begin(), context.end(), batch.begin() + first * 48));
    first += alone.running();
  }
}

}  // namespace
}  // namespace onnx_memo::testing
