// The levels, slowest first. Those for x86-64 and for 64-bit Arm exist only there.
#pragma once

#include "simd/integers.h"
#include "simd/simd.h"

#if defined(__x86_64__) || defined(_M_X64)
#define ONNX_MEMO_X86_64
#endif
#ifdef __AARCH64EL__  // bytes of numbers in memory as in a register's lanes
#define ONNX_MEMO_AARCH64
#endif

namespace onnx_memo::simd {

extern const Level kPortable;
#ifdef ONNX_MEMO_X86_64
extern const Level kSse2;    // every x86-64
extern const Level kAvx2;    // AVX2, FMA and F16C
extern const Level kAvx512;  // AVX-512 F
#endif
#ifdef ONNX_MEMO_AARCH64
extern const Level kNeon;  // every 64-bit Arm
#endif

extern const IntegerLevel kIntegersPortable;
#ifdef ONNX_MEMO_X86_64
extern const IntegerLevel kIntegersAvx2;      // AVX2 and FMA
extern const IntegerLevel kIntegersAvx512Bw;  // AVX-512 F and BW
#ifdef ONNX_MEMO_AVX_VNNI
extern const IntegerLevel kIntegersAvxVnni;  // AVX2, FMA and AVX-VNNI
#endif
extern const IntegerLevel kIntegersAvx512Vnni;  // AVX-512 F and VNNI
#endif
#ifdef ONNX_MEMO_AARCH64
extern const IntegerLevel kIntegersNeon;  // every 64-bit Arm
#endif
#ifdef ONNX_MEMO_DOTPROD
extern const IntegerLevel kIntegersDotprod;  // FEAT_DotProd
#endif
#ifdef ONNX_MEMO_I8MM
extern const IntegerLevel kIntegersI8mm;  // FEAT_I8MM
#endif

}  // namespace onnx_memo::simd
