// Products in 8 bits for processors with AVX-512 and its dot products of bytes.
#include "simd/levels.h"

#ifdef ONNX_MEMO_X86_64
#include <cstring>

#include "simd/avx512_vector.h"
#include "simd/integer_kernels.h"

namespace {

struct Avx512Vnni : Avx512 {
  static constexpr std::size_t kTileRegisters = 3;
  using Integers = __m512i;
  using Weights = __m512i;
  using Sums = __m512i;

  static std::int32_t RoundOne(float x) { return _mm_cvtss_si32(_mm_set_ss(x)); }
  static Integers Round(Register x) { return _mm512_cvtps_epi32(x); }
  static void StoreBytes(std::uint8_t* to, Integers whole) {
    const Integers positive = _mm512_max_epi32(whole, _mm512_setzero_si512());
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtusepi32_epi8(positive));
  }

  static Sums NoSum() { return _mm512_setzero_si512(); }
  static Weights LoadWeights(const std::int8_t* from) { return _mm512_loadu_si512(from); }
  static Integers BroadcastFour(const std::uint8_t* from) {
    std::int32_t four = 0;
    std::memcpy(&four, from, sizeof four);
    return _mm512_set1_epi32(four);
  }
  static void AddDots(Integers four, Weights weights, Sums* sums) {
#ifdef __GNUC__
    // By the intrinsic GCC 12 adds into another register and copies it back, two instructions more for each.
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sums) : "v"(four), "v"(weights));
#else
    *sums = _mm512_dpbusd_epi32(*sums, four, weights);
#endif
  }
  static Integers Total(Sums sums) { return sums; }
  static Integers LoadIntegers(const std::int32_t* from) { return _mm512_loadu_si512(from); }
  static Register ToFloats(Integers whole) { return _mm512_cvtepi32_ps(whole); }

  static Register MinusAbsolute(Register x) {
    return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MIN)));
  }
  // By a step of Newton's from 14 bits on: a division takes as long as ten products.
  static Register Reciprocal(Register x) {
    const Register near = _mm512_rcp14_ps(x);
    return _mm512_fmadd_ps(near, _mm512_fnmadd_ps(x, near, _mm512_set1_ps(1.0F)), near);
  }
  static float SquareRoot(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }
};

}  // namespace

const onnx_memo::simd::IntegerLevel onnx_memo::simd::kIntegersAvx512Vnni = MakeIntegerLevel<Avx512Vnni>("avx512vnni");
#endif
