// The inner loops of the kernels, in one version for each kind of processor, chosen when the library runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "simd/attention.h"

namespace onnx_memo::simd {

// Squared Euclidean norms of a difference and of what was subtracted.
struct Compared {
  float difference;
  float norm;
};

// Half-precision numbers are passed as their bits. No pointer needs more alignment than its element type, and those to
// `unsigned char` none at all. Counts may be zero. Sums are taken in an order of each level's own.
struct Level {
  const char* name;

  // to[i] = from[i], exactly.
  void (*halves_to_floats)(const std::uint16_t* from, float* to, std::size_t count);

  // Squared Euclidean distances of `query`[width] to `count` neighbouring columns of a matrix [width, stride]; `width`
  // is not zero.
  // Returns the least of them that is not NaN, or infinity.
  float (*column_distances)(const float* query, std::size_t width, const float* columns, std::size_t stride,
                            std::size_t count, float* distances);

  // Squared Euclidean distance of `query`[count] to the floats at `bytes`.
  float (*distance)(const float* query, const unsigned char* bytes, std::size_t count);

  // Inner product of `query`[count] and the floats at `bytes`.
  float (*inner_product)(const float* query, const unsigned char* bytes, std::size_t count);

  // output[rows, columns] += a[rows, depth] * b[depth, columns]; the rows of `b` and `output` are `stride`s apart.
  void (*add_half_product)(const std::uint16_t* a, std::size_t rows, std::size_t depth, const float* b,
                           std::size_t b_stride, std::size_t columns, float* output, std::size_t output_stride);

  // The same in single precision; the rows of `a` are `a_stride` apart too.
  void (*add_product)(const float* a, std::size_t rows, std::size_t depth, std::size_t a_stride, const float* b,
                      std::size_t b_stride, std::size_t columns, float* output, std::size_t output_stride);

  // Squared norms of a[count] - b[count] and of `b`.
  Compared (*compare)(const float* a, const std::uint16_t* b, std::size_t count);

  // to[i] += factor * from[i].
  void (*add_scaled_halves)(float factor, const std::uint16_t* from, float* to, std::size_t count);

  // Packs the keys and values of a head for `attend` at this level: head.packed() floats.
  void (*pack_head)(const AttendedHead& head, float* packed);

  // The same of stored keys and values; those of `head` are not read.
  void (*pack_stored)(const AttendedHead& head, const StoredHead& stored, float* packed);

  // Puts a key, whose numbers are `stride` apart, and a value in the place of those that are packed for one token.
  void (*repack_token)(const AttendedHead& head, std::size_t token, const float* key, std::size_t stride,
                       const float* value, float* packed);

  // context[r] = the mean of the values, weighed by the softmax of x = scale * query[r] . keys + bias[r]. Each exp is
  // within 2e-7 of its value, relatively, and those below 1e-38 may be zero. The weights are NaN where an x is NaN or
  // infinity, or all are -inf. `packed` is what the keys and values of `head` were packed to, which are not read
  // themselves; `scratch` holds head.tile() floats. A row is the same alone and among others.
  void (*attend)(const AttendedHead& head, const float* packed, const AttendingRows& rows, float* scratch);
};

// The fastest level that this processor runs.
const Level& Best();

// All levels that this processor runs, slowest first.
std::vector<const Level*> Supported();

}  // namespace onnx_memo::simd
