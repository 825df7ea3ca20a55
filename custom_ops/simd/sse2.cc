// The inner loops for every x86-64 processor.
#include "simd/levels.h"

#ifdef ONNX_MEMO_X86_64
#include <emmintrin.h>

#include "simd/kernels.h"

namespace {

struct Sse2 {
  static constexpr std::size_t kWidth = 4;
  static constexpr std::size_t kTileRows = 6;
  using Register = __m128;

  static Register Broadcast(float x) { return _mm_set1_ps(x); }
  static Register Load(const float* from) { return _mm_loadu_ps(from); }
  static Register LoadBytes(const unsigned char* from) {
    return _mm_castsi128_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static void Store(float* to, Register x) { _mm_storeu_ps(to, x); }
  static Register Add(Register a, Register b) { return _mm_add_ps(a, b); }
  static Register Subtract(Register a, Register b) { return _mm_sub_ps(a, b); }
  static Register Least(Register a, Register b) { return _mm_min_ps(a, b); }     // b, where a is NaN
  static Register Greatest(Register a, Register b) { return _mm_max_ps(a, b); }  // b, where a is NaN
  static Register Multiply(Register a, Register b) { return _mm_mul_ps(a, b); }
  static Register MultiplyAdd(Register a, Register b, Register c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
  static Register LowBitsToExponent(Register x) { return _mm_castsi128_ps(_mm_slli_epi32(_mm_castps_si128(x), 23)); }

  static float Sum(Register x) {
    const Register pairs = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(pairs, _mm_shuffle_ps(pairs, pairs, 1)));
  }
  static float Most(Register x) {  // of numbers that are not NaN
    const Register pairs = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(pairs, _mm_shuffle_ps(pairs, pairs, 1)));
  }

  // Four neighbouring columns of as many rows.
  static void LoadColumns(const float* const* rows, std::size_t column, Register (&columns)[4]) {
    for (std::size_t r = 0; r < 4; ++r) columns[r] = _mm_loadu_ps(rows[r] + column);
    _MM_TRANSPOSE4_PS(columns[0], columns[1], columns[2], columns[3]);
  }

  // The steps of HalfToFloat in half.h, with masks in place of branches.
  static Register LoadHalves(const std::uint16_t* from) {
    const __m128i halves = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
    const __m128i wide = _mm_unpacklo_epi16(halves, _mm_setzero_si128());
    const __m128i magnitude = _mm_and_si128(wide, _mm_set1_epi32(0x7FFF));
    const __m128i sign = _mm_slli_epi32(_mm_xor_si128(wide, magnitude), 16);
    const __m128i small = _mm_cmpgt_epi32(_mm_set1_epi32(0x0400), magnitude);
    const __m128i large = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7BFF));
    const __m128i bias = _mm_add_epi32(_mm_set1_epi32(112 << 23), _mm_and_si128(large, _mm_set1_epi32(112 << 23)));
    const __m128i normal = _mm_add_epi32(_mm_slli_epi32(magnitude, 13), bias);
    const __m128i subnormal = _mm_castps_si128(_mm_mul_ps(_mm_cvtepi32_ps(magnitude), _mm_set1_ps(0x1p-24F)));
    const __m128i chosen = _mm_or_si128(_mm_and_si128(small, subnormal), _mm_andnot_si128(small, normal));
    return _mm_castsi128_ps(_mm_or_si128(chosen, sign));
  }
};

}  // namespace

const onnx_memo::simd::Level onnx_memo::simd::kSse2 = MakeLevel<Sse2>("sse2");
#endif
