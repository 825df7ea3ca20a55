// Products in 8 bits for processors with AVX2 and its dot products of bytes, but without AVX-512: Intel's of desktops
// and laptops from 2021 on, and its small cores.
#include "simd/levels.h"

#ifdef ONNX_MEMO_AVX_VNNI
#include "simd/avx2_integers.h"

namespace {

struct AvxVnni : Avx2Rounding {
  static constexpr std::size_t kTileRegisters = 2;
  using Weights = __m256i;
  using Sums = __m256i;

  static Sums NoSum() { return _mm256_setzero_si256(); }
  static Weights LoadWeights(const std::int8_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  }
  static Integers BroadcastFour(const std::uint8_t* from) { return _mm256_broadcastd_epi32(Four(from)); }
  static void AddDots(Integers four, Weights weights, Sums* sums) {
#ifdef __GNUC__
    // As for AVX-512: by the intrinsic GCC 12 adds into another register, and copies it back.
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(*sums) : "x"(four), "x"(weights));
#else
    *sums = _mm256_dpbusd_avx_epi32(*sums, four, weights);
#endif
  }
  static Integers Total(Sums sums, Integers) { return sums; }
};

}  // namespace

const onnx_memo::simd::IntegerLevel onnx_memo::simd::kIntegersAvxVnni = MakeIntegerLevel<AvxVnni>("avxvnni");
#endif
