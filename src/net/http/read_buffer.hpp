#pragma once
// Bytes read ahead of their use. Grows by doubling up to what its user allows, gives its memory back when
// it is empty and the connection idles. Between prepare() and commit() the kernel may write into it:
// consume() then moves nothing and release() does nothing.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string_view>

#include "base/assert.hpp"

namespace orchestra::http {

class ReadBuffer {
 public:
  std::string_view view() const { return {data_.get() + begin_, end_ - begin_}; }
  std::size_t size() const { return end_ - begin_; }
  bool empty() const { return begin_ == end_; }

  /// Room for at least `least` bytes behind the view; moves or grows what is there. `room()` is its size.
  char* prepare(std::size_t least) {
    ORC_ASSERT(!reserved_);
    reserved_ = true;
    if (capacity_ - end_ >= least) return data_.get() + end_;
    if (begin_ > 0) {
      if (!empty()) std::memmove(data_.get(), data_.get() + begin_, size());
      end_ -= begin_;
      begin_ = 0;
    }
    if (capacity_ - end_ < least) {
      const std::size_t capacity = std::max(capacity_ * 2, end_ + least);
      std::unique_ptr<char[]> larger(new char[capacity]);
      if (end_ > 0) std::memcpy(larger.get(), data_.get(), end_);
      data_ = std::move(larger);
      capacity_ = capacity;
    }
    return data_.get() + end_;
  }
  std::size_t room() const { return capacity_ - end_; }
  void commit(std::size_t bytes) {
    ORC_ASSERT(bytes <= room());
    reserved_ = false;
    end_ += bytes;
  }
  void consume(std::size_t bytes) {
    ORC_ASSERT(bytes <= size());
    begin_ += bytes;
    if (empty() && !reserved_) begin_ = end_ = 0;
  }
  void release() {
    if (!empty() || reserved_) return;
    data_.reset();
    capacity_ = begin_ = end_ = 0;
  }

 private:
  std::unique_ptr<char[]> data_;
  std::size_t capacity_ = 0, begin_ = 0, end_ = 0;
  bool reserved_ = false;
};

}  // namespace orchestra::http
