// Products in 8 bits for processors with AVX2 and FMA. Bytes are widened to 16 bits, in which sums of two products
// cannot overflow; the instruction that multiplies bytes adds two of them in 16 bits, and cuts off.
#include "simd/levels.h"

#ifdef ONNX_MEMO_X86_64
#include "simd/avx2_integers.h"

namespace {

struct Avx2Integers : Avx2Rounding {
  static constexpr std::size_t kTileRegisters = 1;
  struct Pair {
    __m256i low, high;  // of columns 0 to 3 and 4 to 7, four numbers of 16 bits of each, or two sums of 32 bits
  };
  using Weights = Pair;
  using Sums = Pair;

  static Sums NoSum() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static Weights LoadWeights(const std::int8_t* from) {
    const auto* parts = reinterpret_cast<const __m128i*>(from);
    return {_mm256_cvtepi8_epi16(_mm_loadu_si128(parts)), _mm256_cvtepi8_epi16(_mm_loadu_si128(parts + 1))};
  }
  static Integers BroadcastFour(const std::uint8_t* from) { return _mm256_cvtepu8_epi16(Four(from)); }
  static void AddDots(Integers four, Weights weights, Sums* sums) {
    AddTo(&sums->low, _mm256_madd_epi16(four, weights.low));
    AddTo(&sums->high, _mm256_madd_epi16(four, weights.high));
  }
  static Integers Total(Sums sums, Integers) {
    // Adds neighbours: columns 0, 1, 4, 5 and then 2, 3, 6, 7.
    return _mm256_permute4x64_epi64(_mm256_hadd_epi32(sums.low, sums.high), 0xD8);
  }

 private:
  static void AddTo(Integers* sum, Integers dots) {
#ifdef __GNUC__
    // By the intrinsic GCC 12 adds into another register, and then has too few: six rows take a fifth longer.
    __asm__("vpaddd %1, %0, %0" : "+x"(*sum) : "x"(dots));
#else
    *sum = _mm256_add_epi32(*sum, dots);
#endif
  }
};

}  // namespace

const onnx_memo::simd::IntegerLevel onnx_memo::simd::kIntegersAvx2 = MakeIntegerLevel<Avx2Integers>("avx2");
#endif
