// Eight floats in a register, with AVX2, FMA and F16C, as simd/kernels.h and simd/integer_kernels.h use them.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

// Internal linkage on purpose: files that include this are compiled for different processors.
namespace {

struct Avx2 {
  static constexpr std::size_t kWidth = 8;
  static constexpr std::size_t kTileRows = 6;
  using Register = __m256;

  static Register Broadcast(float x) { return _mm256_set1_ps(x); }
  static Register Load(const float* from) { return _mm256_loadu_ps(from); }
  static Register LoadBytes(const unsigned char* from) {
    return _mm256_castsi256_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static Register LoadHalves(const std::uint16_t* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static void Store(float* to, Register x) { _mm256_storeu_ps(to, x); }
  static Register Add(Register a, Register b) { return _mm256_add_ps(a, b); }
  static Register Subtract(Register a, Register b) { return _mm256_sub_ps(a, b); }
  static Register Least(Register a, Register b) { return _mm256_min_ps(a, b); }     // b, where a is NaN
  static Register Greatest(Register a, Register b) { return _mm256_max_ps(a, b); }  // b, where a is NaN
  static Register Multiply(Register a, Register b) { return _mm256_mul_ps(a, b); }
  static Register MultiplyAdd(Register a, Register b, Register c) { return _mm256_fmadd_ps(a, b, c); }
  static Register LowBitsToExponent(Register x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x), 23));
  }

  static float Sum(Register x) {
    const __m128 quads = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 pairs = _mm_add_ps(quads, _mm_movehl_ps(quads, quads));
    return _mm_cvtss_f32(_mm_add_ss(pairs, _mm_shuffle_ps(pairs, pairs, 1)));
  }
  static float Most(Register x) {  // of numbers that are not NaN
    const __m128 quads = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 pairs = _mm_max_ps(quads, _mm_movehl_ps(quads, quads));
    return _mm_cvtss_f32(_mm_max_ss(pairs, _mm_shuffle_ps(pairs, pairs, 1)));
  }

  // Four neighbouring columns of as many rows as a register has lanes.
  static void LoadColumns(const float* const* rows, std::size_t column, Register (&columns)[4]) {
    Register quads[4];  // of rows r and r + 4
    for (std::size_t r = 0; r < 4; ++r) {
      quads[r] = _mm256_castps128_ps256(_mm_loadu_ps(rows[r] + column));
      quads[r] = _mm256_insertf128_ps(quads[r], _mm_loadu_ps(rows[r + 4] + column), 1);
    }
    const Register low = _mm256_unpacklo_ps(quads[0], quads[1]), next_low = _mm256_unpacklo_ps(quads[2], quads[3]);
    const Register high = _mm256_unpackhi_ps(quads[0], quads[1]), next_high = _mm256_unpackhi_ps(quads[2], quads[3]);
    columns[0] = _mm256_shuffle_ps(low, next_low, 0x44);
    columns[1] = _mm256_shuffle_ps(low, next_low, 0xEE);
    columns[2] = _mm256_shuffle_ps(high, next_high, 0x44);
    columns[3] = _mm256_shuffle_ps(high, next_high, 0xEE);
  }
};

}  // namespace
