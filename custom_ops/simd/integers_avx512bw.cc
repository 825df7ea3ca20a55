// Products in 8 bits for processors with AVX-512 but without its dot products of bytes: Intel's servers of 2017 and
// 2018. As with AVX2 bytes are widened to 16 bits, here those of even and those of odd places apart: then every 32 bits
// are of one column.
#include "simd/levels.h"

#ifdef ONNX_MEMO_X86_64
#include "simd/avx512_integers.h"

namespace {

struct Avx512Bw : Avx512Rounding {
  static constexpr std::size_t kTileRegisters = 3;
  struct Places {
    __m512i even, odd;
  };
  using Weights = Places;
  using Sums = __m512i;

  static Sums NoSum() { return _mm512_setzero_si512(); }
  static Weights LoadWeights(const std::int8_t* from) {
    const __m512i bytes = _mm512_loadu_si512(from);
    return {_mm512_srai_epi16(_mm512_slli_epi16(bytes, 8), 8), _mm512_srai_epi16(bytes, 8)};
  }
  static Places BroadcastFour(const std::uint8_t* from) {
    const __m512i four = Four(from);
    return {_mm512_and_si512(four, _mm512_set1_epi16(0xFF)), _mm512_srli_epi16(four, 8)};
  }
  static void AddDots(Places four, Weights weights, Sums* sums) {
    *sums = _mm512_add_epi32(*sums, _mm512_madd_epi16(four.even, weights.even));
    *sums = _mm512_add_epi32(*sums, _mm512_madd_epi16(four.odd, weights.odd));
  }
  static Integers Total(Sums sums, Integers) { return sums; }
};

}  // namespace

const onnx_memo::simd::IntegerLevel onnx_memo::simd::kIntegersAvx512Bw = MakeIntegerLevel<Avx512Bw>("avx512bw");
#endif
