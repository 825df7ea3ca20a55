// The inner loops for processors with AVX2, FMA and F16C.
#include "simd/levels.h"

#ifdef ONNX_MEMO_X86_64
#include "simd/avx2_vector.h"
#include "simd/kernels.h"

const onnx_memo::simd::Level onnx_memo::simd::kAvx2 = MakeLevel<Avx2>("avx2");
#endif
