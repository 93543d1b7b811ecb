#pragma once
// What stands behind the handles of orchestra.h, and the two things every function does: turn an Error into
// a code, and keep exceptions on this side.
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "base/json.hpp"
#include "orchestra/client.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/orchestra.h"
#include "orchestra/state_store.hpp"

struct orc_error {
  orchestra::Error error;
  std::string message, status_json;
  int http_code = 0;
};
struct orc_engine {
  std::unique_ptr<orchestra::Engine> engine;
};
struct orc_store {
  std::shared_ptr<orchestra::StateStore> store;
};
struct orc_client {
  orchestra::Client client;
};

namespace orchestra::c {

inline orc_code code_of(Error::Code code) { return static_cast<orc_code>(code); }
static_assert(static_cast<int>(Error::invalid) == ORC_EINVAL &&
              static_cast<int>(Error::internal) == ORC_EINTERNAL);

inline orc_code fail(const Error& error, orc_error** out) {
  if (out != nullptr) {
    auto made = new orc_error{error, error.to_string(), {}, 0};
    if (const Status* status = error.detail<Status>()) {
      made->http_code = status->code;
      made->status_json = status->json;
    }
    *out = made;
  }
  return code_of(error.code());
}
inline orc_code bad(const char* what, orc_error** out) { return fail(Error(Error::invalid, "c", what), out); }

/// Runs `body`, which returns orc_code; nothing thrown below leaves the library.
template <class F>
orc_code guarded(orc_error** error, F body) {
  if (error != nullptr) *error = nullptr;
  try {
    return body();
  } catch (const std::exception& thrown) {
    return fail(Error(Error::internal, "c", std::string("unexpected: ") + thrown.what()), error);
  } catch (...) {
    return fail(Error(Error::internal, "c", "unexpected exception"), error);
  }
}

inline void give(orc_bytes* out, std::string_view text) {
  char* data = new char[text.size() + 1];
  std::memcpy(data, text.data(), text.size());
  data[text.size()] = '\0';
  out->data = data;
  out->size = text.size();
}
inline std::string text_of(const char* text) { return text != nullptr ? text : ""; }
inline Duration milliseconds(std::int64_t ms) { return std::chrono::milliseconds(ms < 0 ? 0 : ms); }

constexpr std::int64_t kDefaultTimeoutMs = 30'000;
/// A request in words of C++; bindings/c/client.cpp.
Result<ApiRequest> request_of(const orc_request& in);
inline bool usable(const orc_client* client, const orc_request* request) {
  return client != nullptr && request != nullptr && request->size == sizeof(orc_request);
}

/// The names that an options object may have, by the type of their values.
struct OptionNames {
  std::set<std::string> texts, flags = {}, lists = {};

  const char* type_of(const std::string& name) const {
    return texts.count(name) != 0   ? "a string"
           : flags.count(name) != 0 ? "a boolean"
           : lists.count(name) != 0 ? "an array of strings"
                                    : nullptr;
  }
  bool accept(const std::string& name, const json::value& value) const {
    if (texts.count(name) != 0) return value.is_string();
    if (flags.count(name) != 0) return value.is_bool();
    if (!value.is_array()) return false;
    const json::array& list = value.get_array();
    return std::all_of(list.begin(), list.end(), [](const json::value& one) { return one.is_string(); });
  }
  std::string list_all() const {
    std::string out;
    for (const auto* names : {&texts, &flags, &lists}) {
      for (const std::string& name : *names) out += (out.empty() ? "" : ", ") + name;
    }
    return out;
  }
};

/// An options object with known names and values of their types only; nothing is ignored silently.
inline Result<json::value> parse_options(const char* text, const OptionNames& known) {
  if (text == nullptr || *text == '\0') return json::value(json::object{});
  ORC_ASSIGN(json::value value, parse_json(text));
  if (!value.is_object()) return Error(Error::invalid, "c", "options must be a JSON object");
  for (const auto& entry : value.get_object()) {
    const std::string name(entry.key());
    const char* type = known.type_of(name);
    if (type == nullptr)
      return Error(Error::invalid, "c",
                   "option \"" + name + "\" does not exist; there are " + known.list_all());
    if (!known.accept(name, entry.value()))
      return Error(Error::invalid, "c", "option \"" + name + "\" must be " + type);
  }
  return value;
}
inline std::vector<std::string> strings_at(const json::value& options, const char* pointer) {
  std::vector<std::string> out;
  if (const json::array* list = array_at(options, pointer)) {
    for (const json::value& one : *list) {
      if (one.is_string()) out.emplace_back(one.get_string());
    }
  }
  return out;
}

/// An eventfd that is readable while a stream has something, fed by the one-shot notify() of the stream.
/// After each read of the stream: clear(), then notify(signal()), which answers at once if there is more.
class ReadyFd {
 public:
  ReadyFd() : fd_(std::make_shared<Descriptor>()) {}
  int get() const { return fd_->fd; }
  std::function<void()> signal() const {
    return [fd = fd_] {
      const std::uint64_t one = 1;
      (void)!write(fd->fd, &one, sizeof one);
    };
  }
  void clear() const {
    std::uint64_t count = 0;
    (void)!read(fd_->fd, &count, sizeof count);
  }

 private:
  struct Descriptor {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ~Descriptor() { close(fd); }
  };
  std::shared_ptr<Descriptor> fd_;
};

}  // namespace orchestra::c
