// MemoFetch's core against its definition, and what it refuses.
#include <limits>

#include "kernels/memo_fetch.h"
#include "tests/check.h"
#include "tests/naive.h"

namespace onnx_memo::testing {
namespace {

constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();

using Request = FetchCase;

Floats Run(const Request& request) {
  const auto batch = static_cast<std::int64_t>(request.entry.size());
  const std::int64_t rows = request.width == 0 ? 0 : static_cast<std::int64_t>(request.payload.size()) / request.width;
  Floats output(Size(batch * request.padded_length * request.width), -1.0F);
  const FetchJob job(Vector(request.entry), Matrix(request.payload, rows, request.width),
                     {Vector(request.offsets), Vector(request.lengths), rows},
                     {output.data(), {batch, request.padded_length, request.width}});
  for (std::size_t task = 0; task < job.tasks(); ++task) job.Run(task);
  return output;
}

std::string Refusal(const Request& request) {
  return Message<InvalidArgument>([&] { Run(request); });
}

TEST(fetch_copies_pads_and_zeroes_misses) {
  std::mt19937 random(1);
  for (const std::int64_t width : {1, 3, 16, 384}) {
    const Request request{{2, -1, 0, 1, 1}, width, RandomHalves(random, Size(10 * width)), {0, 4, 9}, {4, 5, 1}, 6};
    CHECK(Run(request) == NaiveFetch(request));
  }
}

TEST(fetch_of_many_shares_is_complete) {
  std::mt19937 random(2);
  const Request request{{0, 1}, 384, RandomHalves(random, 500 * 384), {0, 300}, {300, 200}, 400};
  CHECK(Run(request) == NaiveFetch(request));
}

TEST(fetch_of_an_entry_of_full_length_and_of_no_length) {
  std::mt19937 random(3);
  const Request request{{0, 1}, 2, RandomHalves(random, 6), {0, 3}, {3, 0}, 3};
  CHECK(Run(request) == NaiveFetch(request));
}

TEST(fetch_of_nothing_gives_nothing) {
  CHECK(Run(Request{{}, 4, {}, {}, {}, 3}).empty());
  CHECK(Run(Request{{-1}, 4, {}, {}, {}, 0}).empty());
  CHECK(Run(Request{{-1, -1}, 0, {}, {}, {}, 3}).empty());
  CHECK(Run(Request{{-1}, 2, {}, {}, {}, 1}) == Floats(2, 0.0F));
}

TEST(fetch_refuses_entries_that_do_not_exist) {
  for (const std::int64_t entry :
       {std::int64_t{1}, std::int64_t{-2}, kHuge, std::numeric_limits<std::int64_t>::min()}) {
    CHECK_SAYS(Refusal(Request{{entry}, 1, {0}, {0}, {1}, 3}), "entry " + std::to_string(entry) + " does not exist");
  }
}

TEST(fetch_refuses_an_entry_that_is_too_long) {
  CHECK_SAYS(Refusal(Request{{0}, 1, Halves(9), {0}, {4}, 3}), "entry 0 has 4 tokens and the request is padded to 3");
  CHECK_SAYS(Refusal(Request{{0}, 1, Halves(9), {0}, {kHuge}, 3}), "padded to 3");
}

TEST(fetch_refuses_negative_lengths) {
  CHECK_SAYS(Refusal(Request{{0}, 1, Halves(9), {0}, {-1}, 3}), "entry 0 has -1 tokens");
}

TEST(fetch_refuses_rows_outside_the_payload) {
  for (const std::int64_t offset : {std::int64_t{-1}, std::int64_t{8}, std::int64_t{10}, kHuge, -kHuge - 1}) {
    CHECK_SAYS(Refusal(Request{{0}, 1, Halves(9), {offset}, {2}, 3}), "payload ends after 9");
  }
}

TEST(fetch_refuses_tables_of_different_sizes) {
  CHECK_SAYS(Refusal(Request{{0}, 1, Halves(9), {0, 1}, {2}, 3}), "'offsets' holds 2 entries and 'lengths' 1");
}

}  // namespace
}  // namespace onnx_memo::testing
