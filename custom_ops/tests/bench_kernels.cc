// Times the kernels' cores on one thread, one level after the other. Medians of repeated calls.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/attention_job.h"
#include "kernels/memo_grow.h"
#include "kernels/memo_lookup.h"
#include "kernels/memo_merge.h"
#include "kernels/memo_product.h"
#include "kernels/memo_product_norm.h"
#include "kernels/memo_rows.h"
#include "kernels/memo_self_attention.h"
#include "simd/simd.h"
#include "tests/annoy_builder.h"
#include "tests/naive.h"

namespace {

using namespace onnx_memo;

// Seconds.
template <typename Function>
double MedianTime(const Function& function) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> times;
  const auto start = Clock::now();
  while (times.size() < 5 || (Clock::now() - start < std::chrono::milliseconds(200) && times.size() < 10000)) {
    const auto begin = Clock::now();
    function();
    times.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
  }
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

std::vector<float> RandomFloats(std::size_t count) {
  std::mt19937 random(1);
  return testing::RandomFloats(random, count);
}

// The same thousand over and over.
std::vector<std::uint16_t> RandomHalves(std::size_t count) {
  std::mt19937 random(1);
  const std::vector<std::uint16_t> some = testing::RandomHalves(random, 1009);
  std::vector<std::uint16_t> numbers(count);
  for (std::size_t i = 0; i < count; ++i) numbers[i] = some[i % some.size()];
  return numbers;
}

// One request of `heads` heads, as MemoContext computes it.
void BenchContext(const simd::Level& level, std::size_t n, std::size_t width, std::size_t heads) {
  const std::vector<std::uint16_t> a(heads * n * n, 0x2C00);
  const std::vector<float> b = RandomFloats(n * heads * width);
  std::vector<float> output(n * heads * width);
  const double time = MedianTime([&] {
    for (std::size_t h = 0; h < heads; ++h) {
      level.add_half_product(a.data() + h * n * n, n, n, b.data() + h * width, heads * width, width,
                             output.data() + h * width, heads * width);
    }
  });
  const double operations = 2.0 * static_cast<double>(heads * n * n * width);
  std::printf("%-8s context n=%-4zu dv=%-3zu %8.1f us %7.1f GFLOP/s\n", level.name, n, width, time * 1e6,
              operations / time * 1e-9);
}

void BenchFetch(const simd::Level& level, std::size_t count) {
  const std::vector<std::uint16_t> from(count, 0x3C00);
  std::vector<float> to(count);
  const double time = MedianTime([&] { level.halves_to_floats(from.data(), to.data(), count); });
  std::printf("%-8s fetch %8zu elements %8.1f us %7.1f GB/s read and written\n", level.name, count, time * 1e6,
              6.0 * static_cast<double>(count) / time * 1e-9);
}

void BenchScan(const simd::Level& level, std::size_t entries, std::size_t width) {
  const std::vector<float> keys = RandomFloats(entries * width);
  const std::vector<float> query = RandomFloats(width);
  std::vector<float> distances(entries);
  const double time =
      MedianTime([&] { level.column_distances(query.data(), width, keys.data(), entries, entries, distances.data()); });
  std::printf("%-8s scan %7zu entries of %zu %8.1f us\n", level.name, entries, width, time * 1e6);
}

// What follows a product.
enum class Then { kNothing, kGelu, kGeluTanh, kNorm };

// Rows of a request times a matrix, with eight channels apart. `copies` matrices are taken in turn: many are in no
// cache, as in a model whose products follow each other.
void BenchProduct(const simd::IntegerLevel& level, std::int64_t rows, std::int64_t inner, std::int64_t columns,
                  std::int64_t copies, Then then) {
  constexpr std::int64_t kApart = 8;
  const std::vector<float> x = RandomFloats(Size(rows * inner));
  const std::int64_t panels = (columns + 47) / 48;
  const std::int64_t size = panels * inner * 48;
  std::vector<std::int8_t> space(Size(copies * size) + 64);
  auto* const packed = space.data() + 64 - reinterpret_cast<std::uintptr_t>(space.data()) % 64;  // as in a store
  for (std::int64_t i = 0; i < copies * size; ++i) packed[i] = static_cast<std::int8_t>(i * 37 % 255 - 127);
  const std::vector<std::int32_t> sums(Size(columns), 5);
  const std::vector<float> scales(Size(columns), 0.01F), bias(Size(columns), 0.1F), apart(Size(kApart * columns), 0.2F);
  const std::vector<std::int64_t> channels = {3, 30, 33, 100, 101, 250, 300, 383};
  std::vector<float> y(Size(rows * columns)), sum(Size(rows * columns));
  const NormInputs norm = {
      {rows, columns}, testing::Matrix(y, rows, columns), {scales.data(), {columns}}, {bias.data(), {columns}}, 1e-5F};
  const auto run = [](auto job) {
    for (std::size_t task = 0; task < job.rounding_tasks(); ++task) job.Round(task);
    for (std::size_t task = 0; task < job.tasks(); ++task) job.Run(task);
  };
  std::int64_t copy = 0;
  const double time = MedianTime([&] {
    copy = (copy + 1) % copies;
    const ProductWeights weights = {{packed + copy * size, {panels, inner / 4, 48, 4}},
                                    {sums.data(), {columns}},
                                    {scales.data(), {columns}},
                                    {bias.data(), {columns}},
                                    testing::Vector(channels),
                                    testing::Matrix(apart, kApart, columns)};
    const ProductInputs inputs = {{rows, columns}, testing::Matrix(x, rows, inner), weights};
    const View<float, 2> output = {y.data(), {rows, columns}};
    if (then == Then::kNorm) return run(ProductNormJob(inputs, norm, {sum.data(), {rows, columns}}, output, level));
    run(ProductJob(inputs.x, weights, output, level,
                   then == Then::kGelu       ? simd::Activation::kGelu
                   : then == Then::kGeluTanh ? simd::Activation::kGeluTanh
                                             : simd::Activation::kNone));
  });
  const double steps = static_cast<double>(rows * inner * columns);
  constexpr const char* kNames[] = {"product", "gelu", "gelu tanh", "norm"};
  std::printf("%-10s %-9s %3ld rows, %4ld x %-4ld %-6s %8.1f us %7.1f G multiply-adds/s\n", level.name,
              kNames[static_cast<int>(then)], static_cast<long>(rows), static_cast<long>(inner),
              static_cast<long>(columns), copies > 1 ? "cold" : "cached", time * 1e6, steps / time * 1e-9);
}

// Queries near random entries, every entry of one length: the worst case of an index.
void BenchLookup(std::size_t entries, std::size_t width) {
  constexpr std::size_t kQueries = 100;
  const std::vector<float> keys = RandomFloats(entries * width);
  const std::vector<std::int64_t> lengths(entries, 100);
  const std::vector<std::uint8_t> index = testing::BuildStoreIndex(keys, width, lengths, 10);
  std::vector<float> queries = RandomFloats(kQueries * width);
  for (std::size_t i = 0; i < queries.size(); ++i) {
    const std::size_t entry = i / width * 7919 % entries;
    queries[i] = keys[i % width * entries + entry] + 0.2F * queries[i];
  }

  const auto n = static_cast<std::int64_t>(entries);
  const auto k = static_cast<std::int64_t>(width);
  for (const bool exact : {true, false}) {
    const View<const std::uint8_t, 1> used{index.data(), {exact ? 0 : static_cast<std::int64_t>(index.size())}};
    const LookupStore store{{keys.data(), {k, n}}, {lengths.data(), {n}}, used};
    std::size_t hits = 0;
    const double time = MedianTime([&] {
      hits = 0;
      for (std::size_t q = 0; q < kQueries; ++q)
        hits += store.Nearest(&queries[q * width], 100, 1e6F) == static_cast<std::int64_t>(q * 7919 % entries);
    });
    std::printf("lookup, %s %7zu entries of %zu %8.1f us, recall %.2f\n", exact ? "no index  " : "with index", entries,
                width, time / kQueries * 1e6, static_cast<double>(hits) / kQueries);
  }
}

// A request of n tokens of which `running` run, spread evenly, at the best level. The store holds many entries that are
// taken in turn, so that none is in a cache.
struct RowsBench {
  static constexpr std::int64_t kStoreBytes = 1 << 26;

  std::int64_t n, width, heads, running;
  std::int64_t entries = kStoreBytes / (n * width * 2) + 1;
  std::vector<std::int64_t> rows, offsets, squares, length = {n}, entry = {0};

  RowsBench(std::int64_t tokens, std::int64_t its_width, std::int64_t its_heads, std::int64_t its_running)
      : n(tokens), width(its_width), heads(its_heads), running(its_running) {
    for (std::int64_t r = 0; r < running; ++r) rows.push_back(r * n / running);
    for (std::int64_t e = 0; e < entries; ++e) {
      offsets.push_back(e * n);
      squares.push_back(e * n * n);
    }
  }

  std::int64_t stored() const { return entries * n; }
  std::size_t stored_numbers() const { return Size(stored() * width); }

  template <typename Function>
  void Time(const char* name, const Function& function) {
    const double time = MedianTime([&] {
      entry[0] = (entry[0] + 7) % entries;
      function();
    });
    std::printf("%-14s n=%-3ld d=%ld H=%-2ld R=%-3ld %8.1f us\n", name, static_cast<long>(n), static_cast<long>(width),
                static_cast<long>(heads), static_cast<long>(running), time * 1e6);
  }

  template <typename Job>
  static void RunAll(Job& job) {
    for (std::size_t task = 0; task < job.tasks(); ++task) job.Run(task);
  }

  // All states are 1 but those of the rows that run, and so are the stored ones. No others run: the bound is too large.
  void BenchRows(float limit) {
    std::vector<float> states(Size(n * width), 1.0F);
    for (const std::int64_t row : rows) states[Size(row * width)] = 9.0F;
    const std::vector<std::uint16_t> halves(stored_numbers(), 0x3C00);
    std::vector<std::uint16_t> influence = RandomHalves(Size(entries * n * n));
    for (std::uint16_t& half : influence) half &= 0x7FFF;
    std::vector<std::int64_t> chosen(Size(n)), stored_rows(Size(n));
    std::vector<float> change(Size(n)), predicted(Size(n));
    Time(limit < 1 ? "rows over" : "rows", [&] {
      RowsJob job({states.data(), {1, n, width}}, testing::Vector(entry), testing::Vector(length),
                  {testing::Matrix(halves, stored(), width), testing::Vector(influence), testing::Vector(offsets),
                   testing::Vector(squares)},
                  {1e-3F, 1e9F, limit});
      RunAll(job);
      bool hit = false;
      job.Write(chosen.data(), stored_rows.data(), &hit, {change.data(), {1, n}}, {predicted.data(), {1, n}});
    });
  }

  // At most three of the rows that run changed. All others join, or none.
  void BenchGrow(bool all) {
    const std::vector<float> states = RandomFloats(Size(running * width));
    const std::vector<float> correction = RandomFloats(Size(width * width));
    const std::vector<std::uint16_t> halves = RandomHalves(stored_numbers());
    const std::vector<std::uint16_t> influence(Size(entries * n * n), 0x2000);
    const std::vector<float> before(Size(n), 0.1F);
    std::vector<float> change(Size(n)), predicted(Size(n)), grown(Size(n * width));
    for (std::size_t r = 0; r < std::min<std::size_t>(3, rows.size()); ++r) change[Size(rows[r])] = 1.0F;
    std::vector<std::int64_t> grown_rows(Size(n)), stored_rows(Size(n));
    Time(all ? "grow all" : "grow none", [&] {
      const Ragged ragged(testing::Vector(rows), testing::Vector(entry), testing::Vector(length), n, entries);
      GrowJob job({testing::Matrix(states, running, width), testing::Matrix(change, 1, n),
                   testing::Matrix(before, 1, n), testing::Matrix(correction, width, width), all ? -1.0F : 1e9F},
                  ragged,
                  {testing::Matrix(halves, stored(), width), testing::Vector(influence), testing::Vector(influence),
                   testing::Vector(offsets), testing::Vector(squares)},
                  {predicted.data(), {1, n}});
      RunAll(job);
      job.Pack();
      job.Write(0, {grown.data(), grown_rows.data(), stored_rows.data()});
    });
  }

  void BenchAttention(bool apart) {
    const std::int64_t head_width = width / heads;
    const std::vector<float> fresh = RandomFloats(Size(running * 3 * width));
    const std::vector<std::int64_t> sizes = {heads, head_width, head_width};
    const std::vector<std::uint16_t> keys = RandomHalves(stored_numbers());
    const std::vector<std::uint16_t> values = RandomHalves(stored_numbers());
    const std::vector<float> bias(Size(n));
    std::vector<float> output(Size(running * width));
    const View<const float, 3> of_rows = {fresh.data(), {heads, running, head_width}};
    const Heads lying = apart ? Apart(of_rows, {fresh.data(), {heads, head_width, running}}, of_rows)
                              : SideBySide(testing::Matrix(fresh, running, 3 * width), testing::Vector(sizes));
    const Strided<float> context = apart ? Strided<float>{output.data(), 0, running * head_width, head_width}
                                         : Strided<float>{output.data(), 0, head_width, width};
    Time(apart ? "attention" : "  side by side", [&] {
      const Ragged ragged(testing::Vector(rows), testing::Vector(entry), testing::Vector(length), n, entries);
      const AttentionJob job(
          lying, ragged,
          {testing::Matrix(keys, stored(), width), testing::Matrix(values, stored(), width), testing::Vector(offsets)},
          0.1F, {bias.data(), {1, 1, 1, n}}, context);
      RunAll(job);
    });
  }

  void BenchMerge() {
    const std::vector<float> states = RandomFloats(Size(running * width));
    const std::vector<float> final(stored_numbers(), 1.0F);
    const std::vector<std::uint16_t> influence(Size(entries * n * n), 0x2000);
    std::vector<float> output(Size(n * width));
    Time("merge", [&] {
      const Ragged ragged(testing::Vector(rows), testing::Vector(entry), testing::Vector(length), n, entries);
      const MergeJob job(testing::Matrix(states, running, width), testing::Matrix(states, running, width), ragged,
                         {testing::Matrix(final, stored(), width), testing::Vector(influence), testing::Vector(offsets),
                          testing::Vector(squares)},
                         {output.data(), {1, n, width}});
      RunAll(job);
    });
  }
};

// A sequence of n tokens, each attending to all.
void BenchSelfAttention(const simd::Level& level, std::int64_t n, std::int64_t heads, std::int64_t head_width) {
  const std::int64_t width = heads * head_width;
  const std::vector<float> qkv = RandomFloats(Size(n * 3 * width));
  const std::vector<std::int64_t> sizes = {heads, head_width, head_width};
  std::vector<std::int64_t> rows(Size(n));
  for (std::size_t r = 0; r < rows.size(); ++r) rows[r] = static_cast<std::int64_t>(r);
  const std::vector<float> bias(Size(n));
  std::vector<float> context(Size(n * width));
  const double time = MedianTime([&] {
    const SelfAttentionJob job({testing::Matrix(qkv, n, 3 * width),
                                testing::Vector(sizes),
                                testing::Vector(rows),
                                testing::Vector(rows),
                                n,
                                0.17F,
                                {bias.data(), {1, 1, 1, n}}},
                               level);
    for (std::size_t task = 0; task < job.tasks(); ++task) job.Run(task, context.data());
  });
  const double operations = 4.0 * static_cast<double>(n * n * width);
  std::printf("%-8s self-attention n=%-3ld H=%-2ld dk=%-2ld %8.1f us %7.1f GFLOP/s\n", level.name, static_cast<long>(n),
              static_cast<long>(heads), static_cast<long>(head_width), time * 1e6, operations / time * 1e-9);
}

void BenchRunning(std::int64_t n, std::int64_t width, std::int64_t heads) {
  for (const std::int64_t running : {0, 3, 12, 60}) {
    RowsBench bench(n, width, heads, running);
    bench.BenchRows(1.0F);
    if (running == 60) bench.BenchRows(0.05F);
    if (running > 0) bench.BenchGrow(false);
    if (running > 0) bench.BenchGrow(true);
    if (running > 0) bench.BenchAttention(true);
    if (running > 0) bench.BenchAttention(false);
    bench.BenchMerge();
  }
}

}  // namespace

// All of it takes minutes; with the name of a level, its loops alone.
int main(int argc, char** argv) {
  const std::string only = argc > 1 ? argv[1] : "";
  const auto left_out = [&only](const auto* level) { return !only.empty() && only != level->name; };
  for (const simd::IntegerLevel* level : simd::SupportedIntegers()) {
    if (left_out(level)) continue;
    for (const std::int64_t rows : {1, 4, 11, 18, 128}) {
      for (const std::int64_t bytes : {1, 1 << 27}) {
        for (const auto& [inner, columns] : {std::pair{384, 384}, {384, 1536}, {1536, 384}, {768, 3072}}) {
          const std::int64_t copies = bytes / (inner * columns) + 1;
          BenchProduct(*level, rows, inner, columns, copies, Then::kNothing);
          if (columns > inner) BenchProduct(*level, rows, inner, columns, copies, Then::kGelu);
          if (columns > inner) BenchProduct(*level, rows, inner, columns, copies, Then::kGeluTanh);
          if (columns <= inner) BenchProduct(*level, rows, inner, columns, copies, Then::kNorm);
        }
      }
    }
  }
  for (const simd::Level* level : simd::Supported()) {
    if (left_out(level)) continue;
    for (const std::int64_t head_width : {32, 64}) {
      for (const std::int64_t n : {8, 18, 32, 128, 256}) BenchSelfAttention(*level, n, 12, head_width);
    }
  }
  if (only.empty()) {
    BenchRunning(128, 384, 12);
    BenchRunning(122, 512, 8);
    BenchRunning(512, 384, 12);
    for (const std::size_t entries : {1000U, 2000U, 10000U, 100000U}) BenchLookup(entries, 64);
  }
  for (const simd::Level* level : simd::Supported()) {
    if (left_out(level)) continue;
    for (const std::size_t width : {32U, 64U}) {
      for (const std::size_t n : {32U, 128U, 512U}) BenchContext(*level, n, width, 12);
    }
    for (const std::size_t count : {49152U, 1U << 20}) BenchFetch(*level, count);
    for (const std::size_t entries : {1000U, 2000U, 10000U, 100000U}) BenchScan(*level, entries, 64);
  }
}
