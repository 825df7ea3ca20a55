#include "ort/mapped_memory.h"

#ifdef __linux__

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <string>
#include <unordered_map>

namespace onnx_memo::ort {
namespace {

constexpr std::size_t kLarge = 1 << 20;
constexpr std::size_t kAlignment = 64;
constexpr std::size_t kOverrun = 64;  // kernels of ONNX Runtime may read so much beyond the end

// Where this thread's large blocks go; empty: into memory.
thread_local std::string folder;

// The sizes of all blocks that lie in files. They outlive every session, and so does this.
struct Blocks {
  std::mutex mutex;
  std::unordered_map<void*, std::size_t> sizes;
};

Blocks& AllBlocks() {
  static auto* const blocks = new Blocks();
  return *blocks;
}

const MemoryInfo* processor = nullptr;  // set once, before the allocator is registered

// Null where the disk is full, or its file system has no nameless files.
void* Map(std::size_t size) noexcept {
  const int file = open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (file < 0) return nullptr;
  void* block = MAP_FAILED;
  // Room is taken now: later, writing to a full disk would end the process.
  if (posix_fallocate(file, 0, static_cast<off_t>(size)) == 0) {
    block = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  }
  close(file);
  if (block == MAP_FAILED) return nullptr;
  try {
    Blocks& blocks = AllBlocks();
    const std::lock_guard<std::mutex> lock(blocks.mutex);
    blocks.sizes.emplace(block, size);
  } catch (const std::bad_alloc&) {
    munmap(block, size);
    return nullptr;
  }
  return block;
}

void* Allocate(Allocator*, std::size_t size) {
  if (size == 0) return nullptr;
  if (size >= kLarge && !folder.empty()) {
    if (void* block = Map(size + kOverrun)) return block;
  }
  return std::aligned_alloc(kAlignment, (size + kOverrun + kAlignment - 1) / kAlignment * kAlignment);
}

void Free(Allocator*, void* block) {
  if (block == nullptr) return;
  if (reinterpret_cast<std::uintptr_t>(block) % 4096 == 0) {  // others are not the begin of a page
    Blocks& blocks = AllBlocks();
    const std::lock_guard<std::mutex> lock(blocks.mutex);
    const auto found = blocks.sizes.find(block);
    if (found != blocks.sizes.end()) {
      munmap(block, found->second);
      blocks.sizes.erase(found);
      return;
    }
  }
  std::free(block);
}

const MemoryInfo* Describe(const Allocator*) { return processor; }

bool Succeeded(const Api* api, Status* status) noexcept {
  if (status == nullptr) return true;
  ReleaseStatus::Call(api, status);
  return false;
}

// The environment is the process's only one; it keeps the allocator, and both stay until the process ends.
bool Register(const Api* api) noexcept {
  static Allocator allocator{kApiVersion, Allocate, Free, Describe};
  Environment* environment = nullptr;
  MemoryInfo* info = nullptr;
  if (!Succeeded(api, CreateEnvironment::Call(api, LogLevel::kError, "onnx_memo", &environment))) return false;
  if (!Succeeded(api, CreateMemoryInfo::Call(api, "Cpu", AllocatorType::kDevice, 0, MemoryType::kDefault, &info))) {
    return false;
  }
  processor = info;
  return Succeeded(api, RegisterAllocator::Call(api, environment, &allocator));
}

}  // namespace

bool MapMemory(const Api* api, const char* where) noexcept {
  static const bool registered = Register(api);
  if (!registered) return false;
  try {
    folder = where == nullptr ? "" : where;
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

}  // namespace onnx_memo::ort

#else

namespace onnx_memo::ort {

bool MapMemory(const Api*, const char*) noexcept { return false; }

}  // namespace onnx_memo::ort

#endif
