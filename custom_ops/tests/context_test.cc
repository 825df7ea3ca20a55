// MemoContext's core against its definition, and what it refuses.
#include <cmath>
#include <limits>

#include "kernels/memo_context.h"
#include "tests/check.h"
#include "tests/naive.h"

namespace onnx_memo::testing {
namespace {

constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();

using Request = ContextCase;

Floats Run(const Request& request) {
  const std::int64_t rows = request.heads == 0 ? 0 : static_cast<std::int64_t>(request.payload.size()) / request.heads;
  const std::array<std::int64_t, 3> dims = {static_cast<std::int64_t>(request.entry.size()), request.padded_length,
                                            request.heads * request.head_width};
  Floats output(request.values.size(), -1.0F);
  const ContextJob job(Vector(request.entry), {request.values.data(), dims},
                       Matrix(request.payload, rows, request.heads),
                       {Vector(request.offsets), Vector(request.lengths), rows}, {output.data(), dims});
  for (std::size_t task = 0; task < job.tasks(); ++task) job.Run(task);
  return output;
}

std::string Refusal(const Request& request) {
  return Message<InvalidArgument>([&] { Run(request); });
}

void CheckRequest(const Request& request) {
  const Floats output = Run(request);
  const std::int64_t width = request.heads * request.head_width;
  for (std::int64_t at = 0; at < static_cast<std::int64_t>(output.size()); ++at) {
    const std::int64_t row = at / width;
    const double expected = NaiveContext(request, row / request.padded_length, row % request.padded_length, at % width);
    CHECK(std::abs(static_cast<double>(output[Size(at)]) - expected) < 2e-3);
    if (expected == 0.0) CHECK(output[Size(at)] == 0.0F);
  }
}

// A batch of two entries and a miss in between; the second entry has one token.
Request TwoEntries(std::mt19937& random, std::int64_t n, std::int64_t padded, std::int64_t heads, std::int64_t width) {
  return {{0, -1, 1},
          heads,
          width,
          padded,
          RandomFloats(random, Size(3 * padded * heads * width)),
          RandomHalves(random, Size((n * n + 1) * heads)),
          {0, n * n},
          {n, 1}};
}

TEST(context_multiplies_pads_and_zeroes_misses) {
  std::mt19937 random(1);
  for (const std::int64_t n : {1, 2, 11, 12, 31}) {
    for (const std::int64_t heads : {1, 3}) {
      for (const std::int64_t width : {1, 8, 20, 32, 64, 72}) {
        CheckRequest(TwoEntries(random, n, n, heads, width));
        CheckRequest(TwoEntries(random, n, n + 5, heads, width));
      }
    }
  }
}

TEST(context_of_several_row_blocks_is_complete) {
  std::mt19937 random(2);
  CheckRequest(TwoEntries(random, 132, 132, 2, 8));
  CheckRequest(TwoEntries(random, 133, 140, 2, 8));
  CheckRequest(TwoEntries(random, 40, 300, 1, 8));
}

TEST(context_of_nothing_gives_nothing) {
  CHECK(Run(Request{{}, 2, 4, 3, {}, {}, {}, {}}).empty());
  CHECK(Run(Request{{-1}, 2, 4, 0, {}, {}, {}, {}}).empty());
  CHECK(Run(Request{{-1}, 2, 0, 3, {}, {}, {}, {}}).empty());
  CHECK(Run(Request{{-1}, 1, 2, 1, Floats(2, 1.0F), {}, {}, {}}) == Floats(2, 0.0F));
}

TEST(context_of_an_entry_without_tokens_is_zero) {
  CHECK(Run(Request{{0}, 1, 2, 1, Floats(2, 1.0F), {}, {0}, {0}}) == Floats(2, 0.0F));
}

TEST(context_refuses_entries_that_do_not_exist) {
  for (const std::int64_t entry : {std::int64_t{1}, std::int64_t{-2}, kHuge, -kHuge - 1}) {
    CHECK_SAYS(Refusal(Request{{entry}, 1, 1, 1, {1.0F}, {0}, {0}, {1}}), "does not exist, the store holds 1");
  }
}

TEST(context_refuses_an_entry_that_is_too_long) {
  CHECK_SAYS(Refusal(Request{{0}, 1, 1, 1, {1.0F}, Halves(4), {0}, {2}}), "has 2 tokens");
}

TEST(context_refuses_a_length_whose_square_overflows) {
  Request request{{0}, 1, 0, kHuge, {}, Halves(4), {0}, {kHuge}};
  CHECK_SAYS(Refusal(request), "too large");
}

TEST(context_refuses_rows_outside_the_payload) {
  for (const std::int64_t offset : {std::int64_t{-1}, std::int64_t{1}, std::int64_t{5}, kHuge, -kHuge - 1}) {
    CHECK_SAYS(Refusal(Request{{0}, 1, 1, 2, {1.0F, 1.0F}, Halves(4), {offset}, {2}}), "payload ends after 4");
  }
}

TEST(context_refuses_a_payload_without_heads) {
  CHECK_SAYS(Refusal(Request{{-1}, 0, 4, 1, {}, {}, {}, {}}), "no heads");
}

TEST(context_refuses_a_width_that_the_heads_do_not_divide) {
  const Floats values(7, 1.0F);
  const Halves payload(3);
  const Integers entry = {-1};
  const Integers none;
  const auto run = [&] {
    ContextJob(Vector(entry), {values.data(), {1, 1, 7}}, Matrix(payload, 1, 3), {Vector(none), Vector(none), 1}, {});
  };
  CHECK_SAYS(Message<InvalidArgument>(run), "'values' is 7 wide, which 3 heads do not divide");
}

TEST(context_refuses_another_batch) {
  const Floats values(4, 1.0F);
  const Halves payload(1);
  const Integers entry = {-1};
  const Integers none;
  const auto run = [&] {
    ContextJob(Vector(entry), {values.data(), {2, 2, 1}}, Matrix(payload, 1, 1), {Vector(none), Vector(none), 1}, {});
  };
  CHECK_SAYS(Message<InvalidArgument>(run), "'entry' holds 1 rows and 'values' 2");
}

}  // namespace
}  // namespace onnx_memo::testing
