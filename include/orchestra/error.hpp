#pragma once
// Error: one value that says what went wrong.
//
// A code that a program can switch on, the area it came from, a sentence that names the object, the
// value and the remedy, the error below it, and a typed extra (the key-value in the way, an API
// Status). Errors are cheap to copy and immutable; any thread may read one. Since 0.1.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <typeindex>
#include <typeinfo>
#include <utility>

#if defined(_WIN32)
#error "Orchestra runs on Linux"
#else
#define ORC_API __attribute__((visibility("default")))
#endif

namespace orchestra {

class ORC_API Error {
 public:
  /// The codes all areas share (DESIGN.md section 7). `unavailable` means: certainly not applied.
  /// `unknown_outcome` means: may have been applied, or may still be.
  enum Code : std::uint8_t {
    invalid = 1,
    not_found,
    already_exists,
    conflict,
    busy,
    unauthenticated,
    denied,
    unavailable,
    unknown_outcome,
    not_leader,
    deadline_exceeded,
    cancelled,
    overloaded,
    resource_exhausted,
    no_space,
    too_large,
    expired,
    compacted,
    future,
    corrupt,
    io,
    unsupported,
    would_deadlock,
    internal,
  };

  /// `domain` names the area ("store", "runtime", ...) and must be a string literal.
  Error(Code code, const char* domain, std::string message);

  Code code() const { return data_->code; }
  bool is(Code code) const { return data_->code == code; }
  const char* domain() const { return data_->domain; }
  const std::string& message() const { return data_->message; }
  /// The error below this one, or nullptr.
  const Error* cause() const { return data_->cause.get(); }
  /// "message: cause message: ..." in one line.
  std::string to_string() const;

  /// A copy of this error with `cause` below it.
  Error because(Error cause) const;
  /// A copy of this error whose message is "context: message"; code and detail stay.
  Error with_context(std::string_view context) const;

  /// A copy that carries a typed extra.
  template <class T>
  Error with_detail(T value) const {
    auto data = std::make_shared<Data>(*data_);
    data->detail = std::make_shared<T>(std::move(value));
    data->detail_type = &typeid(T);
    return Error(std::move(data));
  }
  /// The typed extra, or nullptr if there is none of this type.
  template <class T>
  const T* detail() const {
    if (data_->detail_type == nullptr || *data_->detail_type != typeid(T)) return nullptr;
    return static_cast<const T*>(data_->detail.get());
  }

 private:
  struct Data {
    Code code;
    const char* domain;
    std::string message;
    std::shared_ptr<const Error> cause;
    std::shared_ptr<const void> detail;
    const std::type_info* detail_type = nullptr;
  };
  explicit Error(std::shared_ptr<const Data> data) : data_(std::move(data)) {}
  std::shared_ptr<const Data> data_;
};

/// "not_found", "conflict", ...
ORC_API const char* to_string(Error::Code code);

}  // namespace orchestra
