#pragma once
// Selectors on labels and fields, as the API server and `kubectl -l` read them. Since 0.1.
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/object.hpp"
#include "orchestra/result.hpp"

namespace orchestra {

/// A label selector: `a=b,c!=d,e in (x,y),f notin (z),g,!h`. Immutable; any thread.
class ORC_API Selector {
 public:
  enum class Operator : std::uint8_t { in, not_in, exists, absent, greater, less };
  struct Requirement {
    std::string key;
    Operator op = Operator::exists;
    std::vector<std::string> values;  ///< sorted, unique
    bool matches(const std::map<std::string, std::string>& labels) const;
    friend bool operator==(const Requirement&, const Requirement&) = default;
  };

  Selector() = default;  ///< matches everything
  static Result<Selector> parse(std::string_view text);
  /// From the JSON of a metav1.LabelSelector ({matchLabels, matchExpressions}); absent or null matches
  /// nothing, an empty one everything.
  static Result<Selector> from_label_selector(std::string_view json);
  /// All of these labels.
  static Selector from_map(const std::map<std::string, std::string>& labels);
  static Selector from_requirements(std::vector<Requirement> requirements);
  static Selector nothing();

  bool matches(const std::map<std::string, std::string>& labels) const;
  bool empty() const { return requirements_.empty() && !nothing_; }  ///< matches everything
  const std::vector<Requirement>& requirements() const { return requirements_; }
  std::string to_string() const;  ///< as upstream prints it: sorted by key
  friend bool operator==(const Selector&, const Selector&) = default;

 private:
  std::vector<Requirement> requirements_;
  bool nothing_ = false;
};

/// A field selector: `spec.nodeName=a,status.phase!=Failed`. Which fields exist is the type's business.
class ORC_API FieldSelector {
 public:
  struct Term {
    std::string field, value;
    bool equal = true;
    friend bool operator==(const Term&, const Term&) = default;
  };
  FieldSelector() = default;
  static Result<FieldSelector> parse(std::string_view text);
  bool empty() const { return terms_.empty(); }
  const std::vector<Term>& terms() const { return terms_; }
  /// `value_of(field)` gives the object's value ("" where absent).
  bool matches(const std::function<std::string(std::string_view field)>& value_of) const;
  /// The value that `field` must have, where one term says `field=value`.
  std::optional<std::string> required_value(std::string_view field) const;
  std::string to_string() const;

 private:
  std::vector<Term> terms_;
};

}  // namespace orchestra
