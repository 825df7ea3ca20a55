// Which rows belong to which sequence, and the refusals that MemoAttention and MemoMerge share.
#include "kernels/ragged.h"

#include <limits>

#include "tests/check.h"
#include "tests/naive.h"

namespace onnx_memo::testing {
namespace {

constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();

// Of a batch over a store of 3 entries.
std::string Refusal(const Integers& rows, const Integers& entry, const Integers& length, std::int64_t padded_length) {
  return Message<InvalidArgument>([&] { Ragged(Vector(rows), Vector(entry), Vector(length), padded_length, 3); });
}

TEST(rows_are_handed_out_to_their_sequences) {
  const Integers rows = {1, 3, 10, 11, 16, 17};
  const Integers entry = {2, 0, -1, 1, 1};
  const Integers length = {4, 5, 2, 3, 0};
  const Ragged ragged(Vector(rows), Vector(entry), Vector(length), 5, 3);
  CHECK(ragged.rows() == 6 && ragged.padded_length() == 5 && ragged.sequences().size() == 5);
  const Integers first = {0, 2, 2, 4, 6};
  const Integers count = {2, 0, 2, 2, 0};
  for (std::size_t b = 0; b < 5; ++b) {
    const Sequence& sequence = ragged.sequences()[b];
    CHECK(sequence.entry == entry[b] && sequence.tokens == length[b]);
    CHECK(sequence.first == first[b] && sequence.count == count[b]);
  }
  CHECK(ragged.Token(0) == 1 && ragged.Token(1) == 3 && ragged.Token(2) == 0 && ragged.Token(5) == 2);
  CHECK(ragged.FirstRow(0, 0) == 0 && ragged.FirstRow(0, 2) == 1 && ragged.FirstRow(0, 4) == 2);
  CHECK(ragged.FirstRow(1, 3) == 2 && ragged.FirstRow(3, 2) == 5);
}

TEST(batches_without_rows_are_fine) {
  CHECK(Refusal({}, {}, {}, 0) == "nothing thrown");
  CHECK(Refusal({}, {}, {}, kHuge) == "nothing thrown");
  CHECK(Refusal({}, {0, -1}, {0, 0}, 0) == "nothing thrown");
  CHECK(Refusal({}, {0}, {4}, 4) == "nothing thrown");
}

TEST(rows_out_of_order_are_refused) {
  CHECK_SAYS(Refusal({2, 1}, {0}, {4}, 4), "'rows' holds 1 at 1, where at least 3 was expected");
  CHECK_SAYS(Refusal({2, 2}, {0}, {4}, 4), "'rows' holds 2 at 1");
  CHECK_SAYS(Refusal({4, 0}, {0, 0}, {4, 4}, 4), "'rows' holds 0 at 1");
  CHECK_SAYS(Refusal({-1}, {0}, {4}, 4), "'rows' holds -1 at 0, where at least 0 was expected");
  CHECK_SAYS(Refusal({-kHuge - 1}, {0}, {0}, 0), "where at least 0");
}

TEST(rows_outside_of_the_batch_are_refused) {
  CHECK_SAYS(Refusal({8}, {0, 0}, {4, 4}, 4), "'rows' holds 8, but the batch has 8 places");
  CHECK_SAYS(Refusal({1, kHuge}, {0, 0}, {4, 4}, 4), "but the batch has 8 places");
  CHECK_SAYS(Refusal({0}, {}, {}, 4), "but the batch has 0 places");
  CHECK_SAYS(Refusal({0}, {0}, {0}, 0), "but the batch has 0 places");
}

TEST(padding_that_runs_is_refused) {
  CHECK_SAYS(Refusal({0, 6}, {0, 0}, {4, 2}, 4), "which is token 2 of sequence 1, but that has 2");
  CHECK_SAYS(Refusal({0}, {0}, {0}, 4), "which is token 0 of sequence 0, but that has 0");
}

TEST(a_sequence_without_entry_must_run_as_a_whole) {
  CHECK_SAYS(Refusal({4, 5}, {0, -1}, {4, 3}, 4), "sequence 1 has no entry and 2 of its 3 tokens run");
  CHECK_SAYS(Refusal({}, {-1}, {1}, 4), "sequence 0 has no entry and 0 of its 1");
}

TEST(entries_lengths_and_sizes_are_checked) {
  CHECK_SAYS(Refusal({}, {3}, {1}, 4), "entry 3 does not exist, the store holds 3");
  CHECK_SAYS(Refusal({}, {-2}, {1}, 4), "entry -2 does not exist");
  CHECK_SAYS(Refusal({}, {kHuge}, {1}, 4), "does not exist");
  CHECK_SAYS(Refusal({}, {0}, {5}, 4), "sequence 0 has 5 tokens and is padded to 4");
  CHECK_SAYS(Refusal({}, {0, 0}, {4, -1}, 4), "sequence 1 has -1 tokens");
  CHECK_SAYS(Refusal({}, {0}, {4, 4}, 4), "'entry' holds 1 rows and 'length' 2");
  CHECK_SAYS(Refusal({}, {0}, {4}, -1), "'padded_length' is -1");
  CHECK_SAYS(Refusal({}, {0, 0}, {4, 4}, kHuge), "too large");
}

}  // namespace
}  // namespace onnx_memo::testing
