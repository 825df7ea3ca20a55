// MemoFetch's core against its definition, and what it refuses.
#include <limits>

#include "kernels/memo_fetch.h"
#include "tests/check.h"
#include "tests/naive.h"

namespace onnx_memo::testing {
namespace {

constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();

struct Request {
  Integers entry;
  std::int64_t width;
  Halves payload;
  Integers offsets;
  Integers lengths;
  std::int64_t padded_length;

  Floats Run() const {
    const auto batch = static_cast<std::int64_t>(entry.size());
    const std::int64_t rows = width == 0 ? 0 : static_cast<std::int64_t>(payload.size()) / width;
    Floats output(Size(batch * padded_length * width), -1.0F);
    const FetchJob job(Vector(entry), Matrix(payload, rows, width), {Vector(offsets), Vector(lengths), rows},
                       {output.data(), {batch, padded_length, width}});
    for (std::size_t task = 0; task < job.tasks(); ++task) job.Run(task);
    return output;
  }

  std::string Refusal() const {
    return Message<InvalidArgument>([this] { Run(); });
  }
};

Floats Naive(const Request& request) {
  Floats output;
  for (const std::int64_t e : request.entry) {
    const auto at = static_cast<std::size_t>(e);
    const std::int64_t rows = e < 0 ? 0 : request.lengths[at];
    for (std::int64_t i = 0; i < request.padded_length * request.width; ++i) {
      const bool stored = i / request.width < rows;
      output.push_back(stored ? NaiveHalf(request.payload[Size(request.offsets[at] * request.width + i)]) : 0.0F);
    }
  }
  return output;
}

TEST(fetch_copies_pads_and_zeroes_misses) {
  std::mt19937 random(1);
  for (const std::int64_t width : {1, 3, 16, 384}) {
    const Request request{{2, -1, 0, 1, 1}, width, RandomHalves(random, Size(10 * width)), {0, 4, 9}, {4, 5, 1}, 6};
    CHECK(request.Run() == Naive(request));
  }
}

TEST(fetch_of_many_shares_is_complete) {
  std::mt19937 random(2);
  const Request request{{0, 1}, 384, RandomHalves(random, 500 * 384), {0, 300}, {300, 200}, 400};
  CHECK(request.Run() == Naive(request));
}

TEST(fetch_of_an_entry_of_full_length_and_of_no_length) {
  std::mt19937 random(3);
  const Request request{{0, 1}, 2, RandomHalves(random, 6), {0, 3}, {3, 0}, 3};
  CHECK(request.Run() == Naive(request));
}

TEST(fetch_of_nothing_gives_nothing) {
  CHECK((Request{{}, 4, {}, {}, {}, 3}).Run().empty());
  CHECK((Request{{-1}, 4, {}, {}, {}, 0}).Run().empty());
  CHECK((Request{{-1, -1}, 0, {}, {}, {}, 3}).Run().empty());
  CHECK((Request{{-1}, 2, {}, {}, {}, 1}).Run() == Floats(2, 0.0F));
}

TEST(fetch_refuses_entries_that_do_not_exist) {
  for (const std::int64_t entry :
       {std::int64_t{1}, std::int64_t{-2}, kHuge, std::numeric_limits<std::int64_t>::min()}) {
    CHECK_SAYS((Request{{entry}, 1, {0}, {0}, {1}, 3}).Refusal(), "entry " + std::to_string(entry) + " does not exist");
  }
}

TEST(fetch_refuses_an_entry_that_is_too_long) {
  CHECK_SAYS((Request{{0}, 1, Halves(9), {0}, {4}, 3}).Refusal(),
             "entry 0 has 4 tokens and the request is padded to 3");
  CHECK_SAYS((Request{{0}, 1, Halves(9), {0}, {kHuge}, 3}).Refusal(), "padded to 3");
}

TEST(fetch_refuses_negative_lengths) {
  CHECK_SAYS((Request{{0}, 1, Halves(9), {0}, {-1}, 3}).Refusal(), "entry 0 has -1 tokens");
}

TEST(fetch_refuses_rows_outside_the_payload) {
  for (const std::int64_t offset : {std::int64_t{-1}, std::int64_t{8}, std::int64_t{10}, kHuge, -kHuge - 1}) {
    CHECK_SAYS((Request{{0}, 1, Halves(9), {offset}, {2}, 3}).Refusal(), "payload ends after 9");
  }
}

TEST(fetch_refuses_tables_of_different_sizes) {
  CHECK_SAYS((Request{{0}, 1, Halves(9), {0, 1}, {2}, 3}).Refusal(), "'offsets' holds 2 entries and 'lengths' 1");
}

}  // namespace
}  // namespace onnx_memo::testing
