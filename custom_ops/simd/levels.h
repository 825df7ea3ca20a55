// The levels, slowest first. Those for x86-64 exist only there.
#pragma once

#include "simd/integers.h"
#include "simd/simd.h"

#if defined(__x86_64__) || defined(_M_X64)
#define ONNX_MEMO_X86_64
#endif

namespace onnx_memo::simd {

extern const Level kPortable;
#ifdef ONNX_MEMO_X86_64
extern const Level kSse2;    // every x86-64
extern const Level kAvx2;    // AVX2, FMA and F16C
extern const Level kAvx512;  // AVX-512 F
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

}  // namespace onnx_memo::simd
