// Products in 8 bits for processors with AVX2 and FMA. Bytes are widened to 16 bits, in which sums of two products
// cannot overflow; the instruction that multiplies bytes adds two of them in 16 bits, and cuts off.
#include "simd/levels.h"

#ifdef ONNX_MEMO_X86_64
#include <cstring>

#include "simd/avx2_vector.h"
#include "simd/integer_kernels.h"

namespace {

struct Avx2Integers : Avx2 {
  static constexpr std::size_t kTileRegisters = 1;
  using Integers = __m256i;
  struct Pair {
    __m256i low, high;  // of columns 0 to 3 and 4 to 7, four numbers of 16 bits of each, or two sums of 32 bits
  };
  using Weights = Pair;
  using Sums = Pair;

  static std::int32_t RoundOne(float x) { return _mm_cvtss_si32(_mm_set_ss(x)); }
  static Integers Round(Register x) { return _mm256_cvtps_epi32(x); }
  static void StoreBytes(std::uint8_t* to, Integers whole) {
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(words, words));
  }

  static Sums NoSum() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static Weights LoadWeights(const std::int8_t* from) {
    const auto* parts = reinterpret_cast<const __m128i*>(from);
    return {_mm256_cvtepi8_epi16(_mm_loadu_si128(parts)), _mm256_cvtepi8_epi16(_mm_loadu_si128(parts + 1))};
  }
  static Integers BroadcastFour(const std::uint8_t* from) {
    std::int32_t four = 0;
    std::memcpy(&four, from, sizeof four);
    return _mm256_cvtepu8_epi16(_mm_set1_epi32(four));
  }
  static void AddDots(Integers four, Weights weights, Sums* sums) {
    sums->low = _mm256_add_epi32(sums->low, _mm256_madd_epi16(four, weights.low));
    sums->high = _mm256_add_epi32(sums->high, _mm256_madd_epi16(four, weights.high));
  }
  static Integers Total(Sums sums) {
    // Adds neighbours: columns 0, 1, 4, 5 and then 2, 3, 6, 7.
    return _mm256_permute4x64_epi64(_mm256_hadd_epi32(sums.low, sums.high), 0xD8);
  }
  static Integers LoadIntegers(const std::int32_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  }
  static Register ToFloats(Integers whole) { return _mm256_cvtepi32_ps(whole); }

  static Register MinusAbsolute(Register x) { return _mm256_or_ps(x, _mm256_set1_ps(-0.0F)); }
  static Register Reciprocal(Register x) { return _mm256_div_ps(_mm256_set1_ps(1.0F), x); }
  static float SquareRoot(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }
};

}  // namespace

const onnx_memo::simd::IntegerLevel onnx_memo::simd::kIntegersAvx2 = MakeIntegerLevel<Avx2Integers>("avx2");
#endif
