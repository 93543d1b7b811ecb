#pragma once
// A persistent ordered map from key to record: a B+tree whose versions share what they have in common.
//
// Copying a Tree takes one reference, whatever its size. A change copies the nodes on its path that some
// other version still holds, and works in place on those that only this version holds; so a batch of
// changes copies each node at most once, and an old version never changes (Driscoll, Sarnak, Sleator,
// Tarjan 1989: path copying). Inner nodes know how many keys lie below each child: rank and count of a
// range cost O(log n).
// One thread changes a given Tree; any number of threads read copies of it.
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "store/mvcc/record.hpp"

namespace orchestra::store {

namespace tree_detail {
struct Node;
class NodeRef {
 public:
  NodeRef() = default;
  explicit NodeRef(Node* owned) : node_(owned) {}
  NodeRef(const NodeRef& other) noexcept;
  NodeRef(NodeRef&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
  NodeRef& operator=(NodeRef other) noexcept {
    std::swap(node_, other.node_);
    return *this;
  }
  ~NodeRef();
  Node* get() const { return node_; }
  explicit operator bool() const { return node_ != nullptr; }

 private:
  Node* node_ = nullptr;
};
}  // namespace tree_detail

class Tree {
 public:
  /// From records in key order, each key once: full nodes, built from below.
  static Tree from_sorted(std::vector<RecordRef> records);

  std::uint64_t size() const { return size_; }
  /// The record of `key`, or nullptr; valid as long as this Tree (or a copy) holds it.
  const Record* find(std::string_view key) const;
  RecordRef find_ref(std::string_view key) const;
  /// How many keys are less than `key`.
  std::uint64_t rank(std::string_view key) const;
  std::uint64_t count(const KeyRange& range) const;
  /// Calls `visit` for each record of the range in key order (or backwards) until it returns false.
  void scan(const KeyRange& range, bool descending, const std::function<bool(const RecordRef&)>& visit) const;

  /// Inserts or replaces; returns the record that was there.
  RecordRef put(RecordRef record);
  RecordRef erase(std::string_view key);

  /// Asserts order, counts and fill of all nodes (tests).
  void check() const;

 private:
  tree_detail::NodeRef root_;
  std::uint64_t size_ = 0;
};

}  // namespace orchestra::store
