// MemoMerge's core against its definition, and what it refuses.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/memo_merge.h"
#include "tests/check.h"
#include "tests/naive.h"

namespace onnx_memo::testing {
namespace {

constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();

using Request = MergeCase;

Floats Run(const Request& request) {
  const auto batch = static_cast<std::int64_t>(request.entry.size());
  const auto running = static_cast<std::int64_t>(request.rows.size());
  const std::int64_t stored = request.width == 0 ? 9 : static_cast<std::int64_t>(request.final.size()) / request.width;
  Floats output(Size(batch * request.padded_length * request.width), -1.0F);
  const Ragged ragged(Vector(request.rows), Vector(request.entry), Vector(request.length), request.padded_length,
                      static_cast<std::int64_t>(request.offsets.size()));
  const MergeJob job(Matrix(request.states, running, request.width), Matrix(request.spread, running, request.width),
                     ragged,
                     {Matrix(request.final, stored, request.width), Vector(request.influence), Vector(request.offsets),
                      Vector(request.squares)},
                     {output.data(), {batch, request.padded_length, request.width}});
  for (std::size_t task = 0; task < job.tasks(); ++task) job.Run(task);
  return output;
}

std::string Refusal(const Request& request) {
  return Message<InvalidArgument>([&] { Run(request); });
}

void CheckRequest(const Request& request) {
  const Floats output = Run(request);
  for (std::int64_t at = 0; at < static_cast<std::int64_t>(output.size()); ++at) {
    const std::int64_t row = at / request.width;
    const double expected =
        NaiveMerge(request, row / request.padded_length, row % request.padded_length, at % request.width);
    CHECK(std::abs(static_cast<double>(output[Size(at)]) - expected) < 1e-4 * (1 + std::abs(expected)));
    if (row % request.padded_length >= request.length[Size(row / request.padded_length)]) CHECK(output[Size(at)] == 0);
  }
}

// A batch over two entries of n and 1 tokens and a sequence without, of which every `step`th token runs.
Request Mixed(std::mt19937& random, std::int64_t n, std::int64_t padded, std::int64_t step, std::int64_t width) {
  Request request{{},     {0, -1, 1, 0}, {n, std::min<std::int64_t>(n, 3), 1, n}, padded, width, {}, {}, {}, {},
                  {1, 0}, {1, 0}};
  for (std::int64_t b = 0; b < 4; ++b) {
    for (std::int64_t t = 0; t < request.length[Size(b)]; ++t) {
      if (request.entry[Size(b)] < 0 || (step > 0 && t % step == b % step)) request.rows.push_back(b * padded + t);
    }
  }
  request.states = RandomFloats(random, request.rows.size() * Size(width));
  request.spread = RandomFloats(random, request.rows.size() * Size(width));
  request.final = RandomFloats(random, Size((n + 1) * width));
  request.influence = RandomHalves(random, Size(n * n + 1));
  return request;
}

TEST(merge_of_a_mixed_batch) {
  std::mt19937 random(1);
  for (const std::int64_t n : {1, 2, 7, 33}) {
    for (const std::int64_t step : {0, 1, 3, 20}) {
      for (const std::int64_t width : {1, 5, 16, 70}) {
        CheckRequest(Mixed(random, n, std::max<std::int64_t>(n, 3), step, width));
        CheckRequest(Mixed(random, n, n + 4, step, width));
      }
    }
  }
}

TEST(merge_of_several_blocks_is_complete) {
  std::mt19937 random(2);
  CheckRequest(Mixed(random, 60, 60, 7, 8));
  CheckRequest(Mixed(random, 150, 200, 2, 8));  // more rows run than are spread at a time
  CheckRequest(Mixed(random, 150, 150, 1, 8));
}

TEST(merge_where_nothing_runs_gives_the_stored_states_exactly) {
  std::mt19937 random(3);
  Request request = Mixed(random, 9, 9, 0, 5);
  request.rows = {};
  request.states = request.spread = {};
  request.entry = {0};
  request.length = {9};
  CHECK(Run(request) == Floats(request.final.begin() + 5, request.final.end()));
}

TEST(merge_copies_rows_that_ran_exactly_and_without_their_spread) {
  std::mt19937 random(4);
  Request request = Mixed(random, 4, 4, 2, 3);
  std::fill(request.spread.begin(), request.spread.end(), std::numeric_limits<float>::quiet_NaN());
  const Floats output = Run(request);
  for (std::size_t r = 0; r < request.rows.size(); ++r) {
    for (std::size_t i = 0; i < 3; ++i) CHECK(output[Size(request.rows[r]) * 3 + i] == request.states[r * 3 + i]);
  }
  CHECK(std::isnan(output[3]));
}

TEST(merge_of_nothing_gives_nothing) {
  CHECK(Run(Request{{}, {}, {}, 3, 2, {}, {}, {}, {}, {}, {}}).empty());
  CHECK(Run(Request{{}, {0}, {2}, 3, 0, {}, {}, {}, Halves(4), {0}, {0}}).empty());
  CHECK(Run(Request{{}, {0}, {0}, 0, 2, {}, {}, {}, {}, {0}, {0}}).empty());
  CHECK(Run(Request{{}, {-1}, {0}, 2, 1, {}, {}, {}, {}, {}, {}}) == Floats(2, 0.0F));
}

TEST(merge_refuses_a_damaged_store) {
  for (const std::int64_t at : {std::int64_t{-1}, std::int64_t{1}, std::int64_t{5}, kHuge, -kHuge - 1}) {
    Request request{{0}, {0}, {2}, 2, 1, {1}, {1}, {1, 2}, Halves(4), {at}, {0}};
    CHECK_SAYS(Refusal(request), "entry 0 owns 2 of 'final' from " + std::to_string(at) + " on, but that ends after 2");
    request.offsets = {0};
    request.squares = {at};
    CHECK_SAYS(Refusal(request),
               "entry 0 owns 4 of 'influence' from " + std::to_string(at) + " on, but that ends after 4");
  }
}

TEST(merge_refuses_a_length_whose_square_overflows) {
  const Integers none;
  const Integers zero = {0};
  const Integers length = {kHuge};
  const Ragged ragged(Vector(none), Vector(zero), Vector(length), kHuge, 1);
  const auto run = [&] {
    MergeJob({nullptr, {0, 0}}, {nullptr, {0, 0}}, ragged,
             {{nullptr, {kHuge, 0}}, {nullptr, {0}}, Vector(zero), Vector(zero)}, {nullptr, {1, kHuge, 0}});
  };
  CHECK_SAYS(Message<InvalidArgument>(run), "too large");
}

TEST(merge_refuses_shapes_that_do_not_fit) {
  const Integers rows = {0};
  const Integers zero = {0};
  const Integers two = {0, 0};
  const Integers length = {1};
  const Ragged ragged(Vector(rows), Vector(zero), Vector(length), 1, 1);
  const auto refusal = [&](std::array<std::int64_t, 2> states, std::array<std::int64_t, 2> spread, std::int64_t final,
                           const Integers& squares) {
    return Message<InvalidArgument>([&] {
      MergeJob({nullptr, states}, {nullptr, spread}, ragged,
               {{nullptr, {1, final}}, {nullptr, {1}}, Vector(zero), Vector(squares)}, {nullptr, {1, 1, states[1]}});
    });
  };
  CHECK(refusal({1, 3}, {1, 3}, 3, zero) == "nothing thrown");
  CHECK_SAYS(refusal({2, 3}, {2, 3}, 3, zero), "'states' holds 2 rows and 'rows' 1");
  CHECK_SAYS(refusal({1, 3}, {2, 3}, 3, zero), "'spread' has shape [2, 3] and 'states' [1, 3]");
  CHECK_SAYS(refusal({1, 3}, {1, 4}, 3, zero), "'spread' has shape [1, 4]");
  CHECK_SAYS(refusal({1, 3}, {1, 3}, 4, zero), "'states' is 3 wide and 'final' 4");
  CHECK_SAYS(refusal({1, 3}, {1, 3}, 3, two), "'offsets' holds 1 entries and 'squares' 2");
}

}  // namespace
}  // namespace onnx_memo::testing
