// Memory of sessions in files. ONNX Runtime packs the weights of products for the processor when it opens a session:
// of a large model a second copy of all of them, which the system could otherwise not write back and drop.
#pragma once

#include "ort/ort_abi.h"

namespace onnx_memo::ort {

// From now on, what this thread allocates for sessions that take the environment's allocators
// (`session.use_env_allocators`) lies in nameless files in `folder`, if it is a mebibyte or more; until it is called
// with null. Memory that is had stays where it is. False, and nothing done, where that cannot be: on other systems
// than Linux, or if the environment has an allocator already.
bool MapMemory(const Api* api, const char* folder) noexcept;

}  // namespace onnx_memo::ort
