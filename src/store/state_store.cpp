// The small handles of StateStore: values, key ranges, watches, snapshots.
#include "orchestra/state_store.hpp"

#include <cstring>
#include <limits>
#include <new>

#include "base/assert.hpp"

namespace orchestra {

Value Value::concat(std::initializer_list<std::string_view> parts) {
  std::size_t size = 0;
  for (std::string_view part : parts) size += part.size();
  Value value;
  if (size == 0) return value;
  ORC_ASSERT(size <= std::numeric_limits<std::uint32_t>::max());
  value.block_ = new (::operator new(sizeof(Block) + size)) Block{1, static_cast<std::uint32_t>(size)};
  char* at = value.block_->bytes();
  for (std::string_view part : parts) {
    if (part.empty()) continue;
    std::memcpy(at, part.data(), part.size());
    at += part.size();
  }
  return value;
}

void Value::release() noexcept {
  if (block_ == nullptr || block_->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  block_->~Block();
  ::operator delete(block_);
}

KeyRange KeyPrefix(std::string prefix) {
  KeyRange range;
  range.end = prefix;
  range.begin = std::move(prefix);
  // The first key after all that start with the prefix: drop trailing 0xFF bytes, add one to the last.
  while (!range.end.empty() && static_cast<unsigned char>(range.end.back()) == 0xFF) range.end.pop_back();
  if (range.end.empty()) {
    range.to_the_end = true;
  } else {
    range.end.back() = static_cast<char>(static_cast<unsigned char>(range.end.back()) + 1);
  }
  return range;
}

std::optional<WatchBatch> Watch::next(Duration deadline) {
  if (error_) return std::nullopt;
  auto batch = impl_->next(deadline);
  if (batch) return std::move(*batch);
  error_ = batch.error();
  return std::nullopt;
}

std::optional<WatchBatch> Watch::poll() {
  if (error_) return std::nullopt;
  auto batch = impl_->poll();
  if (batch) return std::move(*batch);
  error_ = batch.error();
  return std::nullopt;
}

void Watch::notify(std::function<void()> ready) { impl_->notify(std::move(ready)); }
void Watch::cancel() { impl_->cancel(); }

std::vector<KeyValue> Snapshot::range(const KeyRange& range) const {
  auto result = impl_->range(range, {});
  return result ? std::move(result->items) : std::vector<KeyValue>{};
}

}  // namespace orchestra
