// Texts of field errors: k8s.io/apimachinery/pkg/util/validation/field/errors.go and path.go.
#include "api/field_error.hpp"

#include "base/json.hpp"

namespace orchestra::api {
namespace {

const char* type_text(FieldErrorType type) {
  switch (type) {
    case FieldErrorType::required:
      return "Required value";
    case FieldErrorType::not_supported:
      return "Unsupported value";
    case FieldErrorType::forbidden:
      return "Forbidden";
    case FieldErrorType::duplicate:
      return "Duplicate value";
    case FieldErrorType::too_long:
      return "Too long";
    case FieldErrorType::too_many:
      return "Too many";
    case FieldErrorType::not_found:
      return "Not found";
    case FieldErrorType::internal:
      return "Internal error";
    case FieldErrorType::invalid:
    case FieldErrorType::type_invalid:
      break;
  }
  return "Invalid value";
}

/// As Go's %v or %q prints it in ErrorBody; null is the word "null" in quotes.
std::string bad_text(const json::value& value) { return value.is_null() ? "\"null\"" : to_json(value); }

}  // namespace

void FieldPath::append_to(std::string& out) const {
  if (parent_ != nullptr) parent_->append_to(out);
  switch (kind_) {
    case Kind::root:
      break;
    case Kind::name:
      // As Go prints it: a name that is empty is a subscript.
      if (name_.empty()) {
        out += "[]";
        break;
      }
      if (!out.empty()) out += '.';
      out += name_;
      break;
    case Kind::index:
      out += "[" + std::to_string(index_) + "]";
      break;
    case Kind::key:
      out.append("[").append(name_).append("]");
      break;
  }
}

std::string FieldPath::to_string() const {
  std::string out;
  append_to(out);
  return out.empty() ? "<nil>" : out;
}

std::string FieldError::body() const {
  std::string text = type_text(type);
  const bool shows_value = type != FieldErrorType::required && type != FieldErrorType::forbidden &&
                           type != FieldErrorType::too_long && type != FieldErrorType::internal &&
                           !bad_value.empty();
  if (shows_value) text += ": " + bad_value;
  if (!detail.empty()) text += ": " + detail;
  return text;
}

std::string FieldError::to_string() const { return path + ": " + body(); }

const char* FieldError::reason() const {
  switch (type) {
    case FieldErrorType::required:
      return "FieldValueRequired";
    case FieldErrorType::invalid:
      return "FieldValueInvalid";
    case FieldErrorType::not_supported:
      return "FieldValueNotSupported";
    case FieldErrorType::forbidden:
      return "FieldValueForbidden";
    case FieldErrorType::duplicate:
      return "FieldValueDuplicate";
    case FieldErrorType::too_long:
      return "FieldValueTooLong";
    case FieldErrorType::too_many:
      return "FieldValueTooMany";
    case FieldErrorType::type_invalid:
      return "FieldValueTypeInvalid";
    case FieldErrorType::not_found:
      return "FieldValueNotFound";
    case FieldErrorType::internal:
      break;
  }
  return "InternalError";
}

void FieldErrors::add(FieldError error) {
  if (errors_.size() < kMax) errors_.push_back(std::move(error));
}
void FieldErrors::required(const FieldPath& path, std::string_view detail) {
  add({FieldErrorType::required, path.to_string(), "", std::string(detail)});
}
void FieldErrors::invalid(const FieldPath& path, const json::value& bad, std::string_view detail) {
  add({FieldErrorType::invalid, path.to_string(), bad_text(bad), std::string(detail)});
}
void FieldErrors::invalid(const FieldPath& path, std::string_view bad, std::string_view detail) {
  add({FieldErrorType::invalid, path.to_string(), json::serialize(json::string(bad)), std::string(detail)});
}
void FieldErrors::forbidden(const FieldPath& path, std::string_view detail) {
  add({FieldErrorType::forbidden, path.to_string(), "", std::string(detail)});
}
void FieldErrors::duplicate(const FieldPath& path, const json::value& bad) {
  add({FieldErrorType::duplicate, path.to_string(), bad_text(bad), ""});
}
void FieldErrors::not_supported(const FieldPath& path, const json::value& bad,
                                const std::vector<std::string_view>& valid) {
  std::string detail = "supported values: ";
  for (std::size_t i = 0; i < valid.size(); ++i) {
    if (i > 0) detail += ", ";
    detail.append("\"").append(valid[i]).append("\"");
  }
  add({FieldErrorType::not_supported, path.to_string(), bad_text(bad), std::move(detail)});
}
void FieldErrors::too_long(const FieldPath& path, std::size_t max) {
  add({FieldErrorType::too_long, path.to_string(), "",
       "may not be more than " + std::to_string(max) + " bytes"});
}
void FieldErrors::too_many(const FieldPath& path, std::size_t actual, std::size_t max) {
  add({FieldErrorType::too_many, path.to_string(), std::to_string(actual),
       "must have at most " + std::to_string(max) + " items"});
}
void FieldErrors::type_invalid(const FieldPath& path, const json::value& bad, std::string_view detail) {
  add({FieldErrorType::type_invalid, path.to_string(), bad_text(bad), std::string(detail)});
}
void FieldErrors::not_found(const FieldPath& path, const json::value& bad) {
  add({FieldErrorType::not_found, path.to_string(), bad_text(bad), ""});
}

}  // namespace orchestra::api
