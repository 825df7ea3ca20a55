// The inner loops for every 64-bit Arm processor.
#include "simd/levels.h"

#ifdef ONNX_MEMO_AARCH64
#include "simd/kernels.h"
#include "simd/neon_vector.h"

const onnx_memo::simd::Level onnx_memo::simd::kNeon = MakeLevel<Neon>("neon");
#endif
