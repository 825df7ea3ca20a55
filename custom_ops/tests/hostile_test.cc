// Whatever the tables and indices say, the operators on rows refuse or stay inside their tensors. The sanitizers watch.
#include <algorithm>
#include <functional>
#include <limits>
#include <memory>

#include "kernels/attention_job.h"
#include "kernels/memo_grow.h"
#include "kernels/memo_merge.h"
#include "kernels/memo_rows.h"
#include "tests/check.h"
#include "tests/naive.h"

namespace onnx_memo::testing {
namespace {

constexpr std::int64_t kPadded = 5, kWidth = 6, kHeads = 2, kStored = 11, kNumbers = 40;

// A store of three entries and a batch over it whose numbers are mostly plausible.
class Dice {
 public:
  explicit Dice(unsigned seed) : random_(seed) {}

  std::int64_t Below(std::int64_t end) { return std::uniform_int_distribution<std::int64_t>(0, end - 1)(random_); }

  // Once in a while anything at all.
  std::int64_t Number(std::int64_t begin, std::int64_t end) {
    constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
    constexpr std::int64_t kOdd[] = {-1, -2, kMost, -kMost - 1, kMost / 2, std::int64_t{1} << 32, kStored, kNumbers};
    return Below(60) == 0 ? kOdd[Below(8)] : begin + Below(end - begin);
  }

  Integers Numbers(std::int64_t count, std::int64_t begin, std::int64_t end) {
    Integers numbers(Size(count));
    for (auto& number : numbers) number = Number(begin, end);
    return numbers;
  }

  // Halves of any bits, NaN and infinity among them.
  Halves AnyHalves(std::int64_t count) {
    Halves halves(Size(count));
    for (auto& half : halves) half = static_cast<std::uint16_t>(Below(65536));
    return halves;
  }

  std::mt19937& random() { return random_; }

 private:
  std::mt19937 random_;
};

struct Batch {
  Integers entry, length, rows, offsets, squares;

  explicit Batch(Dice& dice) {
    const std::int64_t batch = dice.Below(4);
    entry = dice.Numbers(batch, -1, 3);
    length = dice.Numbers(batch, 0, kPadded + 1);
    offsets = dice.Numbers(3, 0, kStored - 3);
    squares = dice.Numbers(3, 0, kNumbers - 8);
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t t = 0; t < length[Size(b)] && t < kPadded; ++t) {
        if (entry[Size(b)] < 0 || dice.Below(3) == 0) rows.push_back(dice.Number(b * kPadded + t, b * kPadded + t + 1));
      }
    }
    rows.shrink_to_fit();
  }

  std::int64_t size() const { return static_cast<std::int64_t>(entry.size()); }
  std::int64_t running() const { return static_cast<std::int64_t>(rows.size()); }
};

// Whether it was accepted.
template <typename Body>
bool Accepted(const Body& body) {
  return Message<InvalidArgument>(body) == "nothing thrown";
}

template <typename Job>
void RunAll(Job&& job) {
  for (std::size_t task = 0; task < job.tasks(); ++task) job.Run(task);
}

void CheckMany(bool (*accepted)(Dice&)) {
  int count = 0;
  for (unsigned seed = 0; seed < 4000; ++seed) {
    Dice dice(seed);
    count += accepted(dice);
  }
  CHECK(count > 400 && count < 3600);  // both happen
}

bool AcceptedByRows(Dice& dice) {
  const Batch batch(dice);
  const Floats states = RandomFloats(dice.random(), Size(batch.size() * kPadded * kWidth));
  const Halves stored = dice.AnyHalves(kStored * kWidth);
  const Halves influence = dice.AnyHalves(kNumbers);
  const RowsLimits limits{static_cast<float>(dice.Below(3)), static_cast<float>(dice.Below(3)), 1.0F};
  return Accepted([&] {
    RowsJob job({states.data(), {batch.size(), kPadded, kWidth}}, Vector(batch.entry), Vector(batch.length),
                {Matrix(stored, kStored, kWidth), Vector(influence), Vector(batch.offsets), Vector(batch.squares)},
                limits);
    RunAll(job);
    Integers rows(Size(job.count()));
    Integers stored_rows(Size(job.count()));
    Floats known(2 * states.size() / Size(kWidth));
    const View<float, 2> change{known.data(), {batch.size(), kPadded}};
    const auto hits = std::make_unique<bool[]>(Size(batch.size()));
    job.Write(rows.data(), stored_rows.data(), hits.get(), change,
              {known.data() + batch.size() * kPadded, {batch.size(), kPadded}});
    for (const std::int64_t row : stored_rows) CHECK(row >= 0 && row < kStored);
    CHECK(std::is_sorted(rows.begin(), rows.end()));
  });
}

bool AcceptedByGrow(Dice& dice) {
  const Batch batch(dice);
  const Floats states = RandomFloats(dice.random(), Size(batch.running() * kWidth));
  Floats known = RandomFloats(dice.random(), Size(batch.size() * kPadded));
  for (float& number : known) number = std::max(number, 0.0F);  // about half of the tokens changed
  const Floats correction = RandomFloats(dice.random(), Size(kWidth * kWidth));
  const Halves stored = dice.AnyHalves(kStored * kWidth);
  const Halves influence = dice.AnyHalves(kNumbers);
  const std::array<std::int64_t, 2> places = {batch.size(), kPadded};
  Floats predicted(known.size());
  return Accepted([&] {
    const Ragged ragged(Vector(batch.rows), Vector(batch.entry), Vector(batch.length), kPadded, 3);
    GrowJob job({Matrix(states, batch.running(), kWidth),
                 {known.data(), places},
                 {known.data(), places},
                 Matrix(correction, kWidth, kWidth),
                 static_cast<float>(dice.Below(3))},
                ragged,
                {Matrix(stored, kStored, kWidth), Vector(influence), Vector(influence), Vector(batch.offsets),
                 Vector(batch.squares)},
                {predicted.data(), places});
    RunAll(job);
    const std::int64_t count = job.Pack();
    Floats grown(Size(count * kWidth));
    Integers rows(Size(count));
    Integers stored_rows(Size(count));
    for (std::size_t task = 0; task < job.tasks(); ++task) {
      job.Write(task, {grown.data(), rows.data(), stored_rows.data()});
    }
    for (const std::int64_t row : stored_rows) CHECK(row >= 0 && row < kStored);
    CHECK(std::adjacent_find(rows.begin(), rows.end(), std::greater_equal<>()) == rows.end());
    CHECK(std::includes(rows.begin(), rows.end(), batch.rows.begin(), batch.rows.end()));
  });
}

bool AcceptedByAttention(Dice& dice) {
  constexpr std::int64_t kHeadWidth = kWidth / kHeads;
  const Batch batch(dice);
  const std::int64_t running = batch.running();
  const Floats fresh = RandomFloats(dice.random(), Size(running * 3 * kWidth));
  const Halves stored = dice.AnyHalves(kStored * kWidth);
  const std::array<std::int64_t, 4> dims = {dice.Below(2) == 0 ? 1 : batch.size(), 1, 1, kPadded};
  const Floats bias = RandomFloats(dice.random(), Size(dims[0] * kPadded));
  const bool apart = dice.Below(2) == 0;
  const Integers sizes = {dice.Number(kHeads, kHeads + 1), kHeadWidth, kHeadWidth};
  Floats output(Size(running * kWidth));
  return Accepted([&] {
    const View<const float, 3> rows = {fresh.data(), {kHeads, running, kHeadWidth}};
    const View<const float, 3> turned = {fresh.data(), {kHeads, kHeadWidth, running}};
    const Heads heads =
        apart ? Apart(rows, turned, rows) : SideBySide(Matrix(fresh, running, 3 * kWidth), Vector(sizes));
    const Strided<float> context = apart ? Strided<float>{output.data(), 0, running * kHeadWidth, kHeadWidth}
                                         : Strided<float>{output.data(), 0, kHeadWidth, kWidth};
    const Ragged ragged(Vector(batch.rows), Vector(batch.entry), Vector(batch.length), kPadded, 3);
    RunAll(AttentionJob(heads, ragged,
                        {Matrix(stored, kStored, kWidth), Matrix(stored, kStored, kWidth), Vector(batch.offsets)}, 1.0F,
                        {bias.data(), dims}, context));
  });
}

bool AcceptedByMerge(Dice& dice) {
  const Batch batch(dice);
  const Floats states = RandomFloats(dice.random(), Size(batch.running() * kWidth));
  const Floats final = RandomFloats(dice.random(), Size(kStored * kWidth));
  const Halves influence = dice.AnyHalves(kNumbers);
  Floats output(Size(batch.size() * kPadded * kWidth));
  return Accepted([&] {
    const Ragged ragged(Vector(batch.rows), Vector(batch.entry), Vector(batch.length), kPadded, 3);
    RunAll(MergeJob(Matrix(states, batch.running(), kWidth), Matrix(states, batch.running(), kWidth), ragged,
                    {Matrix(final, kStored, kWidth), Vector(influence), Vector(batch.offsets), Vector(batch.squares)},
                    {output.data(), {batch.size(), kPadded, kWidth}}));
  });
}

TEST(hostile_numbers_never_lead_rows_outside) { CheckMany(&AcceptedByRows); }
TEST(hostile_numbers_never_lead_grow_outside) { CheckMany(&AcceptedByGrow); }
TEST(hostile_numbers_never_lead_attention_outside) { CheckMany(&AcceptedByAttention); }
TEST(hostile_numbers_never_lead_merge_outside) { CheckMany(&AcceptedByMerge); }

}  // namespace
}  // namespace onnx_memo::testing
