#pragma once
// Result<T>: a value or an Error. Never dropped silently. Since 0.1.
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "orchestra/error.hpp"

namespace orchestra {

namespace detail {
/// Ends the process through the assertion handler: value() of an error, error() of a value.
[[noreturn]] ORC_API void bad_result_access(const Error* error);
}  // namespace detail

template <class T = void>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  template <class U = T>
    requires(std::is_constructible_v<T, U &&> && !std::is_same_v<std::remove_cvref_t<U>, Result> &&
             !std::is_same_v<std::remove_cvref_t<U>, Error>)
  Result(U&& value) : state_(std::in_place_index<0>, std::forward<U>(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  T& value() & { return *checked(); }
  const T& value() const& { return *const_cast<Result*>(this)->checked(); }
  T value() && { return std::move(*checked()); }
  T& operator*() & { return *checked(); }
  const T& operator*() const& { return *const_cast<Result*>(this)->checked(); }
  T operator*() && { return std::move(*checked()); }
  T* operator->() { return checked(); }
  const T* operator->() const { return const_cast<Result*>(this)->checked(); }
  template <class U>
  T value_or(U&& other) const& {
    return has_value() ? std::get<0>(state_) : static_cast<T>(std::forward<U>(other));
  }

  const Error& error() const {
    if (has_value()) detail::bad_result_access(nullptr);
    return std::get<1>(state_);
  }

 private:
  T* checked() {
    if (!has_value()) detail::bad_result_access(&std::get<1>(state_));
    return &std::get<0>(state_);
  }
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}
  bool has_value() const { return !error_.has_value(); }
  explicit operator bool() const { return has_value(); }
  void value() const {
    if (error_) detail::bad_result_access(&*error_);
  }
  const Error& error() const {
    if (!error_) detail::bad_result_access(nullptr);
    return *error_;
  }

 private:
  std::optional<Error> error_;
};

}  // namespace orchestra

/// Returns the error of `expression` from this function, or goes on.
#define ORC_TRY(expression)                                            \
  do {                                                                 \
    if (auto orc_try_result = (expression); !orc_try_result) {         \
      return orc_try_result.error();                                   \
    }                                                                  \
  } while (false)
#define ORC_TRY_CONCAT_(a, b) a##b
#define ORC_TRY_CONCAT(a, b) ORC_TRY_CONCAT_(a, b)
/// `ORC_ASSIGN(auto page, read_page(7));`: the value, or returns the error.
#define ORC_ASSIGN_(name, declaration, expression)  \
  auto name = (expression);                         \
  if (!name) return name.error();                   \
  declaration = std::move(name).value()
#define ORC_ASSIGN(declaration, expression) \
  ORC_ASSIGN_(ORC_TRY_CONCAT(orc_assign_, __LINE__), declaration, expression)
