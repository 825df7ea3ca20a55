// MemoContext's core against its definition, and what it refuses.
#include <cmath>
#include <limits>

#include "kernels/memo_context.h"
#include "tests/check.h"
#include "tests/naive.h"

namespace onnx_memo::testing {
namespace {

constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();

struct Request {
  Integers entry;
  std::int64_t heads;
  std::int64_t head_width;
  std::int64_t padded_length;
  Floats values;
  Halves payload;
  Integers offsets;
  Integers lengths;

  Floats Run() const {
    const std::int64_t rows = heads == 0 ? 0 : static_cast<std::int64_t>(payload.size()) / heads;
    const std::array<std::int64_t, 3> dims = {static_cast<std::int64_t>(entry.size()), padded_length,
                                              heads * head_width};
    Floats output(values.size(), -1.0F);
    const ContextJob job(Vector(entry), {values.data(), dims}, Matrix(payload, rows, heads),
                         {Vector(offsets), Vector(lengths), rows}, {output.data(), dims});
    for (std::size_t task = 0; task < job.tasks(); ++task) job.Run(task);
    return output;
  }

  std::string Refusal() const {
    return Message<InvalidArgument>([this] { Run(); });
  }
};

double NaiveElement(const Request& request, std::int64_t b, std::int64_t i, std::int64_t column) {
  const std::int64_t e = request.entry[Size(b)];
  const std::int64_t n = e < 0 ? 0 : request.lengths[Size(e)];
  const std::int64_t width = request.heads * request.head_width;
  const std::int64_t head = column / request.head_width;
  double sum = 0;
  for (std::int64_t j = 0; i < n && j < n; ++j) {
    const std::int64_t at = request.offsets[Size(e)] * request.heads + (head * n + i) * n + j;
    sum += static_cast<double>(NaiveHalf(request.payload[Size(at)])) *
           static_cast<double>(request.values[Size((b * request.padded_length + j) * width + column)]);
  }
  return sum;
}

void CheckRequest(const Request& request) {
  const Floats output = request.Run();
  const std::int64_t width = request.heads * request.head_width;
  for (std::int64_t at = 0; at < static_cast<std::int64_t>(output.size()); ++at) {
    const std::int64_t row = at / width;
    const double expected = NaiveElement(request, row / request.padded_length, row % request.padded_length, at % width);
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
  CHECK((Request{{}, 2, 4, 3, {}, {}, {}, {}}).Run().empty());
  CHECK((Request{{-1}, 2, 4, 0, {}, {}, {}, {}}).Run().empty());
  CHECK((Request{{-1}, 2, 0, 3, {}, {}, {}, {}}).Run().empty());
  CHECK((Request{{-1}, 1, 2, 1, Floats(2, 1.0F), {}, {}, {}}).Run() == Floats(2, 0.0F));
}

TEST(context_of_an_entry_without_tokens_is_zero) {
  CHECK((Request{{0}, 1, 2, 1, Floats(2, 1.0F), {}, {0}, {0}}).Run() == Floats(2, 0.0F));
}

TEST(context_refuses_entries_that_do_not_exist) {
  for (const std::int64_t entry : {std::int64_t{1}, std::int64_t{-2}, kHuge, -kHuge - 1}) {
    CHECK_SAYS((Request{{entry}, 1, 1, 1, {1.0F}, {0}, {0}, {1}}).Refusal(), "does not exist, the store holds 1");
  }
}

TEST(context_refuses_an_entry_that_is_too_long) {
  CHECK_SAYS((Request{{0}, 1, 1, 1, {1.0F}, Halves(4), {0}, {2}}).Refusal(), "has 2 tokens");
}

TEST(context_refuses_a_length_whose_square_overflows) {
  Request request{{0}, 1, 0, kHuge, {}, Halves(4), {0}, {kHuge}};
  CHECK_SAYS(request.Refusal(), "too large");
}

TEST(context_refuses_rows_outside_the_payload) {
  for (const std::int64_t offset : {std::int64_t{-1}, std::int64_t{1}, std::int64_t{5}, kHuge, -kHuge - 1}) {
    CHECK_SAYS((Request{{0}, 1, 1, 2, {1.0F, 1.0F}, Halves(4), {offset}, {2}}).Refusal(), "payload ends after 4");
  }
}

TEST(context_refuses_a_payload_without_heads) {
  CHECK_SAYS((Request{{-1}, 0, 4, 1, {}, {}, {}, {}}).Refusal(), "no heads");
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
