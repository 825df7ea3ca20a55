// Times the kernels' cores on one thread, one level after the other. Medians of repeated calls.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <vector>

#include "annoy_builder.h"
#include "memo_lookup.h"
#include "simd/simd.h"

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
  std::normal_distribution<float> normal;
  std::vector<float> numbers(count);
  for (float& number : numbers) number = normal(random);
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

}  // namespace

int main() {
  for (const std::size_t entries : {1000U, 2000U, 10000U, 100000U}) BenchLookup(entries, 64);
  for (const simd::Level* level : simd::Supported()) {
    for (const std::size_t width : {32U, 64U}) {
      for (const std::size_t n : {32U, 128U, 512U}) BenchContext(*level, n, width, 12);
    }
    for (const std::size_t count : {49152U, 1U << 20}) BenchFetch(*level, count);
    for (const std::size_t entries : {1000U, 2000U, 10000U, 100000U}) BenchScan(*level, entries, 64);
  }
}
