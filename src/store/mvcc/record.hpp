#pragma once
// One version of one key: immutable, reference-counted, shared by tree, history, watchers and readers.
//
// The key lies in the same block as the header, the value is a pointer to its own block: a record with a
// 22-byte key takes 80 bytes, and a tree entry is one pointer. A record with version 0 is a tombstone: it
// occurs in the history only and carries key and revision of a removal.
#include <atomic>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

#include "orchestra/state_store.hpp"

namespace orchestra::store {

class Record {
 public:
  Revision create_revision;
  Revision mod_revision;
  std::int64_t version;  ///< 0: tombstone
  LeaseId lease;
  Value value;

  std::string_view key() const { return {reinterpret_cast<const char*>(this + 1), key_size_}; }
  bool tombstone() const { return version == 0; }
  /// What this record costs in memory, with its value.
  std::size_t bytes() const { return sizeof(Record) + key_size_ + value.size() + 24; }
  KeyValue to_key_value() const {
    return {std::string(key()), value, create_revision, mod_revision, version, lease};
  }

 private:
  friend class RecordRef;
  Record(std::string_view key, Value bytes)
      : value(std::move(bytes)), references_(1), key_size_(static_cast<std::uint32_t>(key.size())) {
    if (!key.empty()) std::memcpy(reinterpret_cast<char*>(this + 1), key.data(), key.size());
  }
  std::atomic<std::uint32_t> references_;
  std::uint32_t key_size_;
};

class RecordRef {
 public:
  RecordRef() = default;
  static RecordRef make(std::string_view key, Value value, Revision create, Revision mod,
                        std::int64_t version, LeaseId lease) {
    RecordRef ref;
    ref.record_ = new (::operator new(sizeof(Record) + key.size())) Record(key, std::move(value));
    ref.record_->create_revision = create;
    ref.record_->mod_revision = mod;
    ref.record_->version = version;
    ref.record_->lease = lease;
    return ref;
  }
  static RecordRef tombstone(std::string_view key, Revision revision) {
    return make(key, {}, 0, revision, 0, 0);
  }
  RecordRef(const RecordRef& other) noexcept : record_(other.record_) {
    if (record_ != nullptr) record_->references_.fetch_add(1, std::memory_order_relaxed);
  }
  RecordRef(RecordRef&& other) noexcept : record_(std::exchange(other.record_, nullptr)) {}
  RecordRef& operator=(RecordRef other) noexcept {
    std::swap(record_, other.record_);
    return *this;
  }
  ~RecordRef() {
    if (record_ == nullptr || record_->references_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    record_->~Record();
    ::operator delete(record_);
  }
  /// Of a record that nobody else has seen yet: it takes the place of `previous`.
  void succeed(const Record& previous) {
    record_->create_revision = previous.create_revision;
    record_->version = previous.version + 1;
  }
  const Record* get() const { return record_; }
  const Record& operator*() const { return *record_; }
  const Record* operator->() const { return record_; }
  explicit operator bool() const { return record_ != nullptr; }

 private:
  Record* record_ = nullptr;
};

}  // namespace orchestra::store
