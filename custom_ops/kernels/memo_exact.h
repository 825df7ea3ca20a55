// MemoExact: whether products in 8 bits are to run.
#pragma once

#include <cstddef>

#include "ort/context.h"

namespace onnx_memo {

class MemoExact {
 public:
  static constexpr const char* kName = "MemoExact";
  enum Input : std::size_t { kStrictness };
  static constexpr TensorSpec kInputs[] = {
      {"strictness", ort::ElementType::kFloat},
  };
  enum Output : std::size_t { kExact };
  static constexpr TensorSpec kOutputs[] = {
      {"exact", ort::ElementType::kBool},
  };

  void Compute(const Context& context) const;
};

}  // namespace onnx_memo
