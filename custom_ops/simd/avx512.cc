// The inner loops for processors with AVX-512.
#include "simd/levels.h"

#ifdef ONNX_MEMO_X86_64
#include "simd/avx512_vector.h"
#include "simd/kernels.h"

const onnx_memo::simd::Level onnx_memo::simd::kAvx512 = MakeLevel<Avx512>("avx512");
#endif
