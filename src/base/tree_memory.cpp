// Memory of JSON trees: see tree_memory.hpp.
#include "base/tree_memory.hpp"

#include <mutex>

namespace orchestra {
namespace {

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ORC_ADDRESS_SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define ORC_ADDRESS_SANITIZED 1
#endif

/// Blocks that wait for their next user; none under a sanitizer, which then sees who still reads an old one.
class Spare {
 public:
#if defined(ORC_ADDRESS_SANITIZED)
  static constexpr std::size_t kMax = 0;
#else
  static constexpr std::size_t kMax = 256;  // a large batch has a tree for each of its requests
#endif
  std::unique_ptr<std::byte[]> take() {
    std::lock_guard lock(mutex_);
    if (blocks_.empty()) return nullptr;
    auto block = std::move(blocks_.back());
    blocks_.pop_back();
    return block;
  }
  void give(std::vector<std::unique_ptr<std::byte[]>>& blocks) {
    std::lock_guard lock(mutex_);
    while (!blocks.empty() && blocks_.size() < kMax) {
      blocks_.push_back(std::move(blocks.back()));
      blocks.pop_back();
    }
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<std::byte[]>> blocks_;
};
Spare& spare() {
  static Spare* const kSpare = new Spare;  // outlives every static that holds a tree
  return *kSpare;
}
}  // namespace

TreeMemory::~TreeMemory() { spare().give(blocks_); }

void* TreeMemory::do_allocate(std::size_t bytes, std::size_t alignment) {
  if (bytes > kBlockBytes / 4) {
    large_.push_back(std::make_unique_for_overwrite<std::byte[]>(bytes));
    return large_.back().get();
  }
  void* place = at_;
  if (at_ == nullptr || std::align(alignment, bytes, place, left_) == nullptr) {
    Block block = spare().take();
    if (block == nullptr) block = std::make_unique_for_overwrite<std::byte[]>(kBlockBytes);
    blocks_.push_back(std::move(block));
    at_ = blocks_.back().get();
    left_ = kBlockBytes;
    place = at_;
    std::align(alignment, bytes, place, left_);
  }
  at_ = static_cast<std::byte*>(place) + bytes;
  left_ -= bytes;
  return place;
}

}  // namespace orchestra
