#pragma once
// SharedMap: an ordered map whose copies are cheap and share what they have in common.
//
// The entries lie in blocks of up to 128, in order; a copy is one pointer, a change replaces one block and
// the list of blocks. So two versions of a map are compared by the blocks that differ: what changed is found
// in O(n/128 + changes). A SharedMap is changed by one thread; copies of it may be read and kept by others,
// who never see a later change. Values should be small or shared pointers. Since 0.1.
#include <algorithm>
#include <compare>
#include <cstddef>
#include <functional>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

namespace orchestra {

/// `Key` needs operator<; look-ups also take what compares with it.
template <class Key, class Value>
class SharedMap {
 public:
  using key_type = Key;
  using mapped_type = Value;
  using value_type = std::pair<const Key, Value>;

 private:
  using Entry = std::shared_ptr<const value_type>;
  using Block = std::vector<Entry>;  // never empty
  using Blocks = std::vector<std::shared_ptr<const Block>>;
  static constexpr std::size_t kBlockMax = 128;

 public:
  class const_iterator {
   public:
    using iterator_category = std::forward_iterator_tag;
    using value_type = SharedMap::value_type;
    using difference_type = std::ptrdiff_t;
    using pointer = const value_type*;
    using reference = const value_type&;

    const_iterator() = default;
    reference operator*() const { return *(*(*blocks_)[block_])[index_]; }
    pointer operator->() const { return &**this; }
    const_iterator& operator++() {
      if (++index_ == (*blocks_)[block_]->size()) {
        index_ = 0;
        ++block_;
      }
      return *this;
    }
    const_iterator operator++(int) {
      const_iterator before = *this;
      ++*this;
      return before;
    }
    friend bool operator==(const const_iterator& a, const const_iterator& b) {
      return a.block_ == b.block_ && a.index_ == b.index_;
    }

   private:
    friend class SharedMap;
    const_iterator(const Blocks* blocks, std::size_t block, std::size_t index)
        : blocks_(blocks), block_(block), index_(index) {}
    const Blocks* blocks_ = nullptr;
    std::size_t block_ = 0, index_ = 0;
  };
  using iterator = const_iterator;

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const_iterator begin() const { return {blocks_.get(), 0, 0}; }
  const_iterator end() const { return {blocks_.get(), blocks_ ? blocks_->size() : 0, 0}; }

  /// The first entry whose key is not less.
  template <class K>
  const_iterator lower_bound(const K& key) const {
    if (!blocks_) return end();
    const std::size_t block = block_of(key);
    if (block == blocks_->size()) return end();
    return {blocks_.get(), block, index_in(*(*blocks_)[block], key)};
  }
  template <class K>
  const_iterator find(const K& key) const {
    const const_iterator found = lower_bound(key);
    return found == end() || key < found->first ? end() : found;
  }
  const_iterator find(const Key& key) const { return find<Key>(key); }
  template <class K>
  bool contains(const K& key) const {
    return find(key) != end();
  }
  bool contains(const Key& key) const { return find(key) != end(); }
  /// Throws std::out_of_range.
  const Value& at(const Key& key) const {
    const const_iterator found = find(key);
    if (found == end()) throw std::out_of_range("SharedMap::at");
    return found->second;
  }

  /// Inserts, or replaces the value. Iterators of this map are invalid afterwards.
  void set(Key key, Value value) {
    auto entry = std::make_shared<const value_type>(std::move(key), std::move(value));
    auto blocks = blocks_ ? std::make_shared<Blocks>(*blocks_) : std::make_shared<Blocks>();
    if (blocks->empty()) {
      blocks->push_back(std::make_shared<const Block>(Block{std::move(entry)}));
      ++size_;
    } else {
      const std::size_t at = std::min(block_of(entry->first), blocks->size() - 1);
      Block block = *(*blocks)[at];
      const std::size_t index = index_in(block, entry->first);
      const bool known = index < block.size() && !(entry->first < block[index]->first);
      if (known) {
        block[index] = std::move(entry);
      } else {
        block.insert(block.begin() + static_cast<std::ptrdiff_t>(index), std::move(entry));
        ++size_;
      }
      if (block.size() > kBlockMax) {
        const auto middle = block.begin() + static_cast<std::ptrdiff_t>(block.size() / 2);
        auto upper = std::make_shared<const Block>(middle, block.end());
        block.erase(middle, block.end());
        blocks->insert(blocks->begin() + static_cast<std::ptrdiff_t>(at) + 1, std::move(upper));
      }
      (*blocks)[at] = std::make_shared<const Block>(std::move(block));
    }
    blocks_ = std::move(blocks);
  }

  /// False: there was no such key.
  template <class K>
  bool erase(const K& key) {
    if (!contains(key)) return false;
    const std::size_t at = block_of(key);
    auto blocks = std::make_shared<Blocks>(*blocks_);
    Block block = *(*blocks)[at];
    block.erase(block.begin() + static_cast<std::ptrdiff_t>(index_in(block, key)));
    if (block.empty()) {
      blocks->erase(blocks->begin() + static_cast<std::ptrdiff_t>(at));
    } else {
      (*blocks)[at] = std::make_shared<const Block>(std::move(block));
    }
    blocks_ = std::move(blocks);
    --size_;
    return true;
  }

  /// What changed from `before` to `after`, in the order of keys: f(key, was, is) with pointers to the
  /// values, nullptr for none. Values that compare equal are no change.
  template <class F>
  static void compare(const SharedMap& before, const SharedMap& after, F&& f) {
    const_iterator was = before.begin(), is = after.begin();
    const const_iterator was_end = before.end(), is_end = after.end();
    while (was != was_end || is != is_end) {
      if (was != was_end && is != is_end && was.index_ == 0 && is.index_ == 0 &&
          (*was.blocks_)[was.block_] == (*is.blocks_)[is.block_]) {
        ++was.block_;
        ++is.block_;
      } else if (is == is_end || (was != was_end && was->first < is->first)) {
        f(was->first, &was->second, static_cast<const Value*>(nullptr));
        ++was;
      } else if (was == was_end || is->first < was->first) {
        f(is->first, static_cast<const Value*>(nullptr), &is->second);
        ++is;
      } else {
        if (&*was != &*is && !(was->second == is->second)) f(is->first, &was->second, &is->second);
        ++was;
        ++is;
      }
    }
  }

 private:
  /// The block that has the first entry not less than `key`; their number: none has.
  template <class K>
  std::size_t block_of(const K& key) const {
    const auto found = std::partition_point(
        blocks_->begin(), blocks_->end(),
        [&](const std::shared_ptr<const Block>& block) { return block->back()->first < key; });
    return static_cast<std::size_t>(found - blocks_->begin());
  }
  template <class K>
  static std::size_t index_in(const Block& block, const K& key) {
    const auto found = std::partition_point(block.begin(), block.end(),
                                            [&](const Entry& entry) { return entry->first < key; });
    return static_cast<std::size_t>(found - block.begin());
  }

  std::shared_ptr<const Blocks> blocks_;
  std::size_t size_ = 0;
};

}  // namespace orchestra
