// The B+tree of tree.hpp. Leaves hold up to 64 record pointers; inner nodes up to 48 children, the number
// of keys below each, and from the second child on a separator: the least key that may lie below it.
#include "store/mvcc/tree.hpp"

#include <algorithm>
#include <array>
#include <optional>

#include "base/assert.hpp"

namespace orchestra::store {
namespace tree_detail {

constexpr std::size_t kLeafMax = 64;
constexpr std::size_t kInnerMax = 48;

struct Node {
  explicit Node(bool is_leaf) : leaf(is_leaf) {}
  std::atomic<std::uint32_t> references{1};
  std::uint16_t size = 0;
  const bool leaf;
};

struct Leaf : Node {
  Leaf() : Node(true) {}
  std::array<RecordRef, kLeafMax> records;
};

struct Inner : Node {
  Inner() : Node(false) {}
  std::array<NodeRef, kInnerMax> children;
  std::array<std::uint64_t, kInnerMax> counts;  ///< keys below each child
  std::array<Value, kInnerMax> separators;      ///< [0] is unused
};

namespace {
Leaf* as_leaf(Node* node) { return static_cast<Leaf*>(node); }
Inner* as_inner(Node* node) { return static_cast<Inner*>(node); }

void destroy(Node* node) {
  if (node->leaf) {
    delete as_leaf(node);
  } else {
    delete as_inner(node);
  }
}
}  // namespace

NodeRef::NodeRef(const NodeRef& other) noexcept : node_(other.node_) {
  if (node_ != nullptr) node_->references.fetch_add(1, std::memory_order_relaxed);
}
NodeRef::~NodeRef() {
  if (node_ != nullptr && node_->references.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy(node_);
}

namespace {

/// The node of `ref` in a form that only this version holds: itself, or a copy put in its place. Sound
/// because callers go down from the root: below a node that is ours alone, a count of one means ours.
Node* own(NodeRef& ref) {
  Node* node = ref.get();
  if (node->references.load(std::memory_order_acquire) == 1) return node;
  if (node->leaf) {
    auto* copy = new Leaf;
    copy->size = node->size;
    std::copy_n(as_leaf(node)->records.begin(), node->size, copy->records.begin());
    ref = NodeRef(copy);
  } else {
    auto* copy = new Inner;
    copy->size = node->size;
    std::copy_n(as_inner(node)->children.begin(), node->size, copy->children.begin());
    std::copy_n(as_inner(node)->counts.begin(), node->size, copy->counts.begin());
    std::copy_n(as_inner(node)->separators.begin(), node->size, copy->separators.begin());
    ref = NodeRef(copy);
  }
  return ref.get();
}

std::size_t lower_bound(const Leaf& leaf, std::string_view key) {
  const auto end = leaf.records.begin() + leaf.size;
  return static_cast<std::size_t>(std::lower_bound(leaf.records.begin(), end, key,
                                                   [](const RecordRef& record, std::string_view wanted) {
                                                     return record->key() < wanted;
                                                   }) -
                                  leaf.records.begin());
}

/// The child below which `key` lies if it is there.
std::size_t child_of(const Inner& inner, std::string_view key) {
  const auto first = inner.separators.begin() + 1;
  const auto found = std::upper_bound(
      first, inner.separators.begin() + inner.size, key,
      [](std::string_view wanted, const Value& separator) { return wanted < separator.bytes(); });
  return static_cast<std::size_t>(found - inner.separators.begin()) - 1;
}

std::uint64_t keys_below(const Node* node) {
  if (node->leaf) return node->size;
  const auto* inner = static_cast<const Inner*>(node);
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < inner->size; ++i) sum += inner->counts[i];
  return sum;
}

template <class Array, class T>
void insert_at(Array& array, std::size_t size, std::size_t at, T value) {
  std::move_backward(array.begin() + at, array.begin() + size, array.begin() + size + 1);
  array[at] = std::move(value);
}
template <class Array>
void erase_at(Array& array, std::size_t size, std::size_t at) {
  std::move(array.begin() + at + 1, array.begin() + size, array.begin() + at);
  array[size - 1] = {};
}

struct Split {
  Value separator;
  NodeRef right;
};

/// Where to cut a full node into which something goes at `at`: appending leaves the left side full, so
/// that keys that arrive in order fill their nodes.
std::size_t cut_point(std::size_t max, std::size_t at) { return at == max ? max : max / 2; }

/// The shortest separator s with `left` < s <= `right`.
Value shortest_separator(std::string_view left, std::string_view right) {
  std::size_t same = 0;
  while (same < left.size() && left[same] == right[same]) ++same;
  return Value(right.substr(0, same + 1));
}

std::optional<Split> put_leaf(Leaf* leaf, RecordRef record, RecordRef& previous) {
  std::size_t at = lower_bound(*leaf, record->key());
  if (at < leaf->size && leaf->records[at]->key() == record->key()) {
    previous = std::exchange(leaf->records[at], std::move(record));
    return std::nullopt;
  }
  if (leaf->size < kLeafMax) {
    insert_at(leaf->records, leaf->size, at, std::move(record));
    ++leaf->size;
    return std::nullopt;
  }
  const std::size_t cut = cut_point(kLeafMax, at);
  auto* right = new Leaf;
  std::move(leaf->records.begin() + cut, leaf->records.end(), right->records.begin());
  right->size = static_cast<std::uint16_t>(kLeafMax - cut);
  leaf->size = static_cast<std::uint16_t>(cut);
  Leaf* target = at > cut || at == kLeafMax ? right : leaf;
  if (target == right) at -= cut;
  insert_at(target->records, target->size, at, std::move(record));
  ++target->size;
  return Split{shortest_separator(leaf->records[leaf->size - 1]->key(), right->records[0]->key()),
               NodeRef(right)};
}

void insert_child(Inner* inner, std::size_t at, Split split) {
  const std::uint64_t below = keys_below(split.right.get());
  insert_at(inner->children, inner->size, at, std::move(split.right));
  insert_at(inner->counts, inner->size, at, below);
  insert_at(inner->separators, inner->size, at, std::move(split.separator));
  ++inner->size;
}

std::optional<Split> put_node(NodeRef& ref, RecordRef record, RecordRef& previous);

std::optional<Split> put_inner(Inner* inner, RecordRef record, RecordRef& previous) {
  const std::size_t i = child_of(*inner, record->key());
  auto split = put_node(inner->children[i], std::move(record), previous);
  if (!split) {
    if (!previous) ++inner->counts[i];
    return std::nullopt;
  }
  inner->counts[i] = keys_below(inner->children[i].get());
  const std::size_t at = i + 1;
  if (inner->size < kInnerMax) {
    insert_child(inner, at, std::move(*split));
    return std::nullopt;
  }
  // Cut so that each side keeps at least one child; the right side's first separator moves up.
  const std::size_t cut = at == kInnerMax ? kInnerMax - 1 : kInnerMax / 2;
  auto* right = new Inner;
  std::move(inner->children.begin() + cut, inner->children.end(), right->children.begin());
  std::copy(inner->counts.begin() + cut, inner->counts.end(), right->counts.begin());
  std::move(inner->separators.begin() + cut, inner->separators.end(), right->separators.begin());
  right->size = static_cast<std::uint16_t>(kInnerMax - cut);
  inner->size = static_cast<std::uint16_t>(cut);
  Value up = std::exchange(right->separators[0], Value());
  if (at > cut) {
    insert_child(right, at - cut, std::move(*split));
  } else {
    insert_child(inner, at, std::move(*split));
  }
  return Split{std::move(up), NodeRef(right)};
}

std::optional<Split> put_node(NodeRef& ref, RecordRef record, RecordRef& previous) {
  Node* node = own(ref);
  if (node->leaf) return put_leaf(as_leaf(node), std::move(record), previous);
  return put_inner(as_inner(node), std::move(record), previous);
}

/// Moves all of `inner`'s child i + 1 into child i, if they fit into one node.
void try_merge(Inner* inner, std::size_t i) {
  const std::size_t max = inner->children[i].get()->leaf ? kLeafMax : kInnerMax;
  if (inner->children[i].get()->size + std::size_t{inner->children[i + 1].get()->size} > max) return;
  Node* left = own(inner->children[i]);
  Node* right = own(inner->children[i + 1]);
  if (left->leaf) {
    std::move(as_leaf(right)->records.begin(), as_leaf(right)->records.begin() + right->size,
              as_leaf(left)->records.begin() + left->size);
  } else {
    auto* to = as_inner(left);
    auto* from = as_inner(right);
    from->separators[0] = inner->separators[i + 1];
    std::move(from->children.begin(), from->children.begin() + from->size, to->children.begin() + to->size);
    std::copy_n(from->counts.begin(), from->size, to->counts.begin() + to->size);
    std::move(from->separators.begin(), from->separators.begin() + from->size,
              to->separators.begin() + to->size);
  }
  left->size = static_cast<std::uint16_t>(left->size + right->size);
  inner->counts[i] += inner->counts[i + 1];
  erase_at(inner->children, inner->size, i + 1);
  erase_at(inner->counts, inner->size, i + 1);
  erase_at(inner->separators, inner->size, i + 1);
  --inner->size;
}

RecordRef erase_node(NodeRef& ref, std::string_view key) {
  Node* node = own(ref);
  if (node->leaf) {
    auto* leaf = as_leaf(node);
    const std::size_t at = lower_bound(*leaf, key);
    ORC_ASSERT(at < leaf->size);
    RecordRef gone = leaf->records[at];
    erase_at(leaf->records, leaf->size, at);
    --leaf->size;
    return gone;
  }
  auto* inner = as_inner(node);
  const std::size_t i = child_of(*inner, key);
  RecordRef gone = erase_node(inner->children[i], key);
  --inner->counts[i];
  const Node* child = inner->children[i].get();
  const std::size_t few = (child->leaf ? kLeafMax : kInnerMax) / 4;
  if (child->size < few && inner->size > 1) try_merge(inner, i > 0 ? i - 1 : i);
  // A child that could not be merged and is empty: its neighbour is full. Take it out.
  for (std::size_t j = 0; j < inner->size && inner->size > 1; ++j) {
    if (inner->counts[j] != 0) continue;
    erase_at(inner->children, inner->size, j);
    erase_at(inner->counts, inner->size, j);
    erase_at(inner->separators, inner->size, j);
    --inner->size;
    inner->separators[0] = {};
    break;
  }
  return gone;
}

struct Bounds {
  std::string_view begin;
  std::optional<std::string_view> end;
};

using Visit = std::function<bool(const RecordRef&)>;

bool scan_node(const Node* node, const Bounds& bounds, bool descending, const Visit& visit) {
  if (node->leaf) {
    const auto& leaf = *static_cast<const Leaf*>(node);
    const std::size_t first = lower_bound(leaf, bounds.begin);
    const std::size_t last = bounds.end ? lower_bound(leaf, *bounds.end) : leaf.size;
    for (std::size_t n = first; n < last; ++n) {
      if (!visit(leaf.records[descending ? last - 1 - (n - first) : n])) return false;
    }
    return true;
  }
  const auto& inner = *static_cast<const Inner*>(node);
  const std::size_t first = child_of(inner, bounds.begin);
  std::size_t last = inner.size;  // exclusive
  if (bounds.end) last = child_of(inner, *bounds.end) + 1;
  for (std::size_t n = first; n < last; ++n) {
    const std::size_t i = descending ? last - 1 - (n - first) : n;
    if (!scan_node(inner.children[i].get(), bounds, descending, visit)) return false;
  }
  return true;
}

const RecordRef* find_below(const Node* node, std::string_view key) {
  if (node == nullptr) return nullptr;
  while (!node->leaf) {
    const auto& inner = *static_cast<const Inner*>(node);
    node = inner.children[child_of(inner, key)].get();
  }
  const auto& leaf = *static_cast<const Leaf*>(node);
  const std::size_t at = lower_bound(leaf, key);
  return at == leaf.size || leaf.records[at]->key() != key ? nullptr : &leaf.records[at];
}

struct CheckState {
  const Record* last = nullptr;
  std::size_t leaf_depth = 0;
};

std::uint64_t check_node(const Node* node, std::size_t depth, CheckState& state) {
  if (node->leaf) {
    ORC_ASSERT(state.leaf_depth == 0 || state.leaf_depth == depth);
    state.leaf_depth = depth;
    const auto& leaf = *static_cast<const Leaf*>(node);
    for (std::size_t i = 0; i < leaf.size; ++i) {
      ORC_ASSERT(state.last == nullptr || state.last->key() < leaf.records[i]->key());
      state.last = leaf.records[i].get();
    }
    return leaf.size;
  }
  const auto& inner = *static_cast<const Inner*>(node);
  ORC_ASSERT(inner.size > 0);
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < inner.size; ++i) {
    if (i > 0) ORC_ASSERT(state.last == nullptr || state.last->key() < inner.separators[i].bytes());
    const std::uint64_t below = check_node(inner.children[i].get(), depth + 1, state);
    ORC_ASSERT(below == inner.counts[i]);
    sum += below;
  }
  return sum;
}

}  // namespace
}  // namespace tree_detail

using namespace tree_detail;

RecordRef Tree::find_ref(std::string_view key) const {
  const RecordRef* found = find_below(root_.get(), key);
  return found != nullptr ? *found : RecordRef();
}

const Record* Tree::find(std::string_view key) const {
  const RecordRef* found = find_below(root_.get(), key);
  return found != nullptr ? found->get() : nullptr;
}

std::uint64_t Tree::rank(std::string_view key) const {
  const Node* node = root_.get();
  if (node == nullptr) return 0;
  std::uint64_t before = 0;
  while (!node->leaf) {
    const auto& inner = *static_cast<const Inner*>(node);
    const std::size_t i = child_of(inner, key);
    for (std::size_t j = 0; j < i; ++j) before += inner.counts[j];
    node = inner.children[i].get();
  }
  return before + lower_bound(*static_cast<const Leaf*>(node), key);
}

std::uint64_t Tree::count(const KeyRange& range) const {
  if (range.single) return find(range.begin) != nullptr ? 1 : 0;
  if (!range.to_the_end && range.begin >= range.end) return 0;
  return (range.to_the_end ? size_ : rank(range.end)) - rank(range.begin);
}

void Tree::scan(const KeyRange& range, bool descending,
                const std::function<bool(const RecordRef&)>& visit) const {
  if (!root_) return;
  if (range.single) {
    if (const RecordRef record = find_ref(range.begin)) visit(record);
    return;
  }
  if (!range.to_the_end && range.begin >= range.end) return;
  Bounds bounds{range.begin, std::nullopt};
  if (!range.to_the_end) bounds.end = range.end;
  scan_node(root_.get(), bounds, descending, visit);
}

Tree Tree::from_sorted(std::vector<RecordRef> records) {
  Tree tree;
  tree.size_ = records.size();
  if (records.empty()) return tree;
  struct Built {
    NodeRef node;
    Value separator;  ///< least key that may lie below it
    std::uint64_t count;
  };
  std::vector<Built> level;
  for (std::size_t at = 0; at < records.size(); at += kLeafMax) {
    auto* leaf = new Leaf;
    leaf->size = static_cast<std::uint16_t>(std::min(kLeafMax, records.size() - at));
    Value separator;
    if (at > 0) separator = shortest_separator(records[at - 1]->key(), records[at]->key());
    level.push_back({NodeRef(leaf), std::move(separator), leaf->size});
    // The record before the next leaf is still needed for its separator: copy the reference, free later.
    std::copy_n(records.begin() + static_cast<std::ptrdiff_t>(at), leaf->size, leaf->records.begin());
  }
  while (level.size() > 1) {
    std::vector<Built> above;
    for (std::size_t at = 0; at < level.size(); at += kInnerMax) {
      auto* inner = new Inner;
      inner->size = static_cast<std::uint16_t>(std::min(kInnerMax, level.size() - at));
      std::uint64_t count = 0;
      for (std::size_t i = 0; i < inner->size; ++i) {
        Built& child = level[at + i];
        inner->children[i] = std::move(child.node);
        inner->counts[i] = child.count;
        if (i > 0) inner->separators[i] = std::move(child.separator);
        count += child.count;
      }
      above.push_back({NodeRef(inner), std::move(level[at].separator), count});
    }
    level = std::move(above);
  }
  tree.root_ = std::move(level.front().node);
  return tree;
}

RecordRef Tree::put(RecordRef record) {
  if (!root_) root_ = NodeRef(new Leaf);
  RecordRef previous;
  auto split = put_node(root_, std::move(record), previous);
  if (split) {
    auto* root = new Inner;
    root->counts[0] = keys_below(root_.get());
    root->children[0] = std::move(root_);
    root->size = 1;
    insert_child(root, 1, std::move(*split));
    root_ = NodeRef(root);
  }
  if (!previous) ++size_;
  return previous;
}

RecordRef Tree::erase(std::string_view key) {
  if (find(key) == nullptr) return {};  // an absent key must not copy the path
  RecordRef gone = erase_node(root_, key);
  --size_;
  while (!root_.get()->leaf && root_.get()->size == 1) {
    NodeRef child = as_inner(root_.get())->children[0];
    root_ = std::move(child);
  }
  if (size_ == 0) root_ = NodeRef();
  return gone;
}

void Tree::check() const {
  CheckState state;
  const std::uint64_t counted = root_ ? check_node(root_.get(), 1, state) : 0;
  ORC_ASSERT(counted == size_);
}

}  // namespace orchestra::store
