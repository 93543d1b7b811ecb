// Error, and the answers of Pending and Result when they are used wrongly.
#include "orchestra/error.hpp"

#include <cstdio>
#include <cstdlib>

#include "base/assert.hpp"
#include "orchestra/pending.hpp"

namespace orchestra {

Error::Error(Code code, const char* domain, std::string message)
    : data_(std::make_shared<Data>(Data{code, domain, std::move(message), nullptr, nullptr, nullptr})) {}

std::string Error::to_string() const {
  std::string text = data_->message;
  for (const Error* below = cause(); below != nullptr; below = below->cause()) {
    text += ": ";
    text += below->message();
  }
  return text;
}

Error Error::because(Error cause) const {
  auto data = std::make_shared<Data>(*data_);
  data->cause = std::make_shared<const Error>(std::move(cause));
  return Error(std::move(data));
}

Error Error::with_context(std::string_view context) const {
  auto data = std::make_shared<Data>(*data_);
  data->message = std::string(context) + ": " + data->message;
  return Error(std::move(data));
}

const char* to_string(Error::Code code) {
  switch (code) {
    case Error::invalid:
      return "invalid";
    case Error::not_found:
      return "not_found";
    case Error::already_exists:
      return "already_exists";
    case Error::conflict:
      return "conflict";
    case Error::busy:
      return "busy";
    case Error::unauthenticated:
      return "unauthenticated";
    case Error::denied:
      return "denied";
    case Error::unavailable:
      return "unavailable";
    case Error::unknown_outcome:
      return "unknown_outcome";
    case Error::not_leader:
      return "not_leader";
    case Error::deadline_exceeded:
      return "deadline_exceeded";
    case Error::cancelled:
      return "cancelled";
    case Error::overloaded:
      return "overloaded";
    case Error::resource_exhausted:
      return "resource_exhausted";
    case Error::no_space:
      return "no_space";
    case Error::too_large:
      return "too_large";
    case Error::expired:
      return "expired";
    case Error::compacted:
      return "compacted";
    case Error::future:
      return "future";
    case Error::corrupt:
      return "corrupt";
    case Error::io:
      return "io";
    case Error::unsupported:
      return "unsupported";
    case Error::would_deadlock:
      return "would_deadlock";
    case Error::internal:
      return "internal";
  }
  return "internal";
}

namespace {
AssertionHandler g_assertion_handler = nullptr;
}

void set_assertion_handler(AssertionHandler handler) { g_assertion_handler = handler; }

namespace detail {

void assertion_failed(const char* expression, const char* file, int line, const char* message) {
  if (g_assertion_handler != nullptr) {
    g_assertion_handler(expression, file, line, message);
  } else {
    std::fprintf(stderr, "orchestra: assertion failed: %s at %s:%d %s\n", expression, file, line, message);
  }
  std::abort();
}

void bad_result_access(const Error* error) {
  const std::string text = error != nullptr ? error->to_string() : "error() of a Result that holds a value";
  assertion_failed("Result access", "result.hpp", 0, text.c_str());
}

Error would_deadlock_error() {
  return {Error::would_deadlock, "engine",
          "wait() was called on an event thread of the engine, which would stop what it waits for; use "
          "on_ready()"};
}
Error deadline_error(Duration waited) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(waited).count();
  return {Error::deadline_exceeded, "engine",
          "no answer within " + std::to_string(ms) + " ms; the work goes on"};
}
Error abandoned_error() {
  return {Error::cancelled, "engine", "the work was dropped before it had an answer"};
}
Error cancelled_error() { return {Error::cancelled, "engine", "cancelled by the caller"}; }

}  // namespace detail
}  // namespace orchestra
