#pragma once
// Typed reading of JSON with the path of what is wrong: "linux.resources.memory.limit: expected an integer".
//
// Errors are collected in the shared reader state (the first one counts), so that a parser reads like the
// schema it reads. Unknown members are ignored, as runtime-spec config.md "Extensibility" asks.
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.hpp"

namespace orchestra::runtime {

class JsonReader {
 public:
  struct Failure {
    std::optional<Error> error;
  };
  JsonReader(const json::value* value, std::string path, Failure& failure)
      : value_(value), path_(std::move(path)), failure_(failure) {}

  bool present() const { return value_ != nullptr && !value_->is_null(); }
  /// Present and more than an empty list, object or text, false or 0: somebody asks for something.
  bool asked() const {
    if (!present()) return false;
    if (value_->is_bool()) return value_->get_bool();
    if (value_->is_string()) return !value_->get_string().empty();
    if (value_->is_array()) return !value_->get_array().empty();
    if (value_->is_object()) return !value_->get_object().empty();
    if (value_->is_int64()) return value_->get_int64() != 0;
    return true;
  }
  const std::string& path() const { return path_; }
  void fail(const std::string& why) const {
    if (!failure_.error)
      failure_.error = Error(Error::invalid, "runtime",
                             "config.json: " + (path_.empty() ? "document" : path_) + ": " + why);
  }

  JsonReader operator[](const char* name) const {
    const std::string path = path_.empty() ? name : path_ + "." + name;
    if (!present()) return {nullptr, path, failure_};
    if (!value_->is_object()) {
      fail("expected an object");
      return {nullptr, path, failure_};
    }
    return {value_->get_object().if_contains(name), path, failure_};
  }
  std::vector<JsonReader> items() const {
    std::vector<JsonReader> all;
    if (!present()) return all;
    if (!value_->is_array()) {
      fail("expected an array");
      return all;
    }
    std::size_t index = 0;
    for (const json::value& item : value_->get_array())
      all.emplace_back(&item, path_ + "[" + std::to_string(index++) + "]", failure_);
    return all;
  }
  /// The members of an object, by name.
  std::vector<std::pair<std::string, JsonReader>> members() const {
    std::vector<std::pair<std::string, JsonReader>> all;
    if (!present()) return all;
    if (!value_->is_object()) {
      fail("expected an object");
      return all;
    }
    for (const auto& member : value_->get_object()) {
      const std::string name(member.key());
      all.emplace_back(name, JsonReader(&member.value(), path_ + "." + name, failure_));
    }
    return all;
  }
  std::string text(std::string other = {}) const {
    if (!present()) return other;
    if (!value_->is_string()) {
      fail("expected a string");
      return other;
    }
    std::string out(value_->get_string());
    if (out.find('\0') != std::string::npos) fail("has a NUL character");
    return out;
  }
  bool boolean(bool other = false) const {
    if (!present()) return other;
    if (value_->is_bool()) return value_->get_bool();
    fail("expected true or false");
    return other;
  }
  template <class T>
  std::optional<T> number() const {
    if (!present()) return std::nullopt;
    if (value_->is_int64() && std::in_range<T>(value_->get_int64()))
      return static_cast<T>(value_->get_int64());
    if (value_->is_uint64() && std::in_range<T>(value_->get_uint64()))
      return static_cast<T>(value_->get_uint64());
    fail("expected an integer from " + std::to_string(std::numeric_limits<T>::min()) + " to " +
         std::to_string(std::numeric_limits<T>::max()) + ", not " + json::serialize(*value_).substr(0, 64));
    return std::nullopt;
  }
  std::vector<std::string> texts() const {
    std::vector<std::string> all;
    for (const JsonReader& item : items()) all.push_back(item.text());
    return all;
  }
  std::map<std::string, std::string> text_map() const {
    std::map<std::string, std::string> all;
    if (!present()) return all;
    if (!value_->is_object()) {
      fail("expected an object");
      return all;
    }
    for (const auto& member : value_->get_object()) {
      all[std::string(member.key())] =
          JsonReader(&member.value(), path_ + "." + std::string(member.key()), failure_).text();
    }
    return all;
  }

 private:
  const json::value* value_;
  std::string path_;
  Failure& failure_;
};

}  // namespace orchestra::runtime
