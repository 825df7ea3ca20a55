// Products in 8 bits for processors with AVX-512 and its dot products of bytes.
#include "simd/levels.h"

#ifdef ONNX_MEMO_X86_64
#include "simd/avx512_integers.h"

namespace {

struct Avx512Vnni : Avx512Rounding {
  static constexpr std::size_t kTileRegisters = 3;
  using Weights = __m512i;
  using Sums = __m512i;

  static Sums NoSum() { return _mm512_setzero_si512(); }
  static Weights LoadWeights(const std::int8_t* from) { return _mm512_loadu_si512(from); }
  static Integers BroadcastFour(const std::uint8_t* from) { return Four(from); }
  static void AddDots(Integers four, Weights weights, Sums* sums) {
#ifdef __GNUC__
    // By the intrinsic GCC 12 adds into another register and copies it back, two instructions more for each.
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sums) : "v"(four), "v"(weights));
#else
    *sums = _mm512_dpbusd_epi32(*sums, four, weights);
#endif
  }
  static Integers Total(Sums sums, Integers) { return sums; }
};

}  // namespace

const onnx_memo::simd::IntegerLevel onnx_memo::simd::kIntegersAvx512Vnni = MakeIntegerLevel<Avx512Vnni>("avx512vnni");
#endif
