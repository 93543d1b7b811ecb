#pragma once
// Memory of JSON trees that live and go together, as those of one request.
//
// Taken from blocks by moving a pointer and given back at once, so neither making nor dropping a tree costs a
// call of the allocator for each value. Boost.JSON does not even visit the values of such a tree when it
// drops it.
//
// A tree that is copied is in the ordinary heap, whatever it is copied from; one that is moved out stays here
// and must not outlive this. Not thread safe. Since 0.1.
#include <boost/json.hpp>
#include <memory>
#include <vector>

#include "orchestra/result.hpp"

namespace orchestra {

class ORC_API TreeMemory final : public boost::json::memory_resource {
 public:
  TreeMemory() = default;
  ~TreeMemory() override;
  TreeMemory(const TreeMemory&) = delete;
  TreeMemory& operator=(const TreeMemory&) = delete;

  static constexpr std::size_t kBlockBytes = 32 << 10;

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override;
  void do_deallocate(void*, std::size_t, std::size_t) override {}
  bool do_is_equal(const boost::json::memory_resource& other) const noexcept override {
    return this == &other;
  }

  using Block = std::unique_ptr<std::byte[]>;
  std::vector<Block> blocks_;  ///< of kBlockBytes
  std::vector<Block> large_;   ///< one value each
  std::byte* at_ = nullptr;
  std::size_t left_ = 0;
};

}  // namespace orchestra

template <>
struct boost::json::is_deallocate_trivial<orchestra::TreeMemory> {
  static constexpr bool value = true;
};
