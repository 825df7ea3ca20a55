// A tensor that somebody else owns: a pointer and a shape.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "ort/error.h"

namespace onnx_memo {

// Row-major. `data` must not be read when a dimension is zero.
template <typename T, std::size_t rank>
struct View {
  T* data = nullptr;
  std::array<std::int64_t, rank> dims{};

  // Throws InvalidArgument when the number of elements exceeds int64.
  std::int64_t count() const {
    std::int64_t product = 1;
    for (const std::int64_t dim : dims) product = Product(product, dim);
    return product;
  }
};

}  // namespace onnx_memo
