// The inner loops for any processor: short arrays, which compilers turn into its vectors.
#include "simd/kernels.h"
#include "simd/levels.h"
#include "simd/portable_vector.h"

const onnx_memo::simd::Level onnx_memo::simd::kPortable = MakeLevel<Portable>("portable");
