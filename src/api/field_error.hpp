#pragma once
// Validation errors in the words of upstream's k8s.io/apimachinery/pkg/util/validation/field, and the path
// to a field, kept on the stack and printed only when there is something to report.
#include <boost/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/error.hpp"

namespace orchestra::api {
namespace json = boost::json;

/// `spec.containers[0].ports[1].protocol`, `metadata.labels[a/b]`. A child refers to its parent, so a path
/// must not outlive the frames below it.
class FieldPath {
 public:
  FieldPath() = default;  ///< the root
  explicit FieldPath(std::string_view name) : name_(name), kind_(Kind::name) {}
  FieldPath operator/(std::string_view name) const { return {this, name, Kind::name}; }
  FieldPath operator[](std::size_t index) const { return {this, index}; }
  FieldPath key(std::string_view key) const { return {this, key, Kind::key}; }
  std::string to_string() const;

 private:
  enum class Kind : std::uint8_t { root, name, index, key };
  FieldPath(const FieldPath* parent, std::string_view name, Kind kind)
      : parent_(parent), name_(name), kind_(kind) {}
  FieldPath(const FieldPath* parent, std::size_t index)
      : parent_(parent), index_(index), kind_(Kind::index) {}
  void append_to(std::string& out) const;
  const FieldPath* parent_ = nullptr;
  std::string_view name_;
  std::size_t index_ = 0;
  Kind kind_ = Kind::root;
};

enum class FieldErrorType : std::uint8_t {
  required,
  invalid,
  not_supported,
  forbidden,
  duplicate,
  too_long,
  too_many,
  type_invalid,
  not_found,
  internal,
};

struct FieldError {
  FieldErrorType type = FieldErrorType::invalid;
  std::string path;
  std::string bad_value;  ///< as Go prints it: strings quoted, objects as JSON
  std::string detail;
  /// "spec.x: Required value", `spec.y: Invalid value: "z": must be ...`
  std::string to_string() const;
  /// Without the path: the message of a Status cause.
  std::string body() const;
  /// "FieldValueRequired", ...: the reason of a Status cause.
  const char* reason() const;
};

/// Collects errors; at most kMax are kept, the rest is counted.
class FieldErrors {
 public:
  static constexpr std::size_t kMax = 200;
  void required(const FieldPath& path, std::string_view detail = {});
  void invalid(const FieldPath& path, const json::value& bad, std::string_view detail);
  void invalid(const FieldPath& path, std::string_view bad, std::string_view detail);
  void invalid(const FieldPath& path, const char* bad, std::string_view detail) {
    invalid(path, std::string_view(bad), detail);
  }
  void forbidden(const FieldPath& path, std::string_view detail);
  void duplicate(const FieldPath& path, const json::value& bad);
  /// `valid` in the order of upstream's message.
  void not_supported(const FieldPath& path, const json::value& bad,
                     const std::vector<std::string_view>& valid);
  void too_long(const FieldPath& path, std::size_t max);
  void too_many(const FieldPath& path, std::size_t actual, std::size_t max);
  void type_invalid(const FieldPath& path, const json::value& bad, std::string_view detail);
  void not_found(const FieldPath& path, const json::value& bad);
  void add(FieldError error);
  /// What was wrong before already and is not refused for that: told to the client, at most kMax.
  void warn(const FieldError& error) {
    if (warnings_.size() < kMax) warnings_.push_back(error.to_string());
  }
  const std::vector<std::string>& warnings() const { return warnings_; }

  bool empty() const { return errors_.empty(); }
  std::size_t size() const { return errors_.size(); }
  const std::vector<FieldError>& all() const { return errors_; }
  auto begin() const { return errors_.begin(); }
  auto end() const { return errors_.end(); }

 private:
  std::vector<FieldError> errors_;
  std::vector<std::string> warnings_;
};

}  // namespace orchestra::api
