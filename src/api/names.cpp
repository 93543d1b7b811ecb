// Names, label keys and values: k8s.io/apimachinery/pkg/util/validation/validation.go, with its sentences.
// Written by hand instead of with regular expressions: these run for every key of every write.
#include <algorithm>

#include "api/meta.hpp"

namespace orchestra::api {
namespace {

constexpr std::size_t kSubdomainMax = 253;
constexpr std::size_t kLabelMax = 63;
constexpr std::size_t kGeneratedBaseMax = 58;

bool lower(char c) { return c >= 'a' && c <= 'z'; }
bool digit(char c) { return c >= '0' && c <= '9'; }
bool alnum(char c) { return lower(c) || digit(c) || (c >= 'A' && c <= 'Z'); }

/// [a-z0-9]([-a-z0-9]*[a-z0-9])?
bool is_dns_label(std::string_view text) {
  return !text.empty() && text.front() != '-' && text.back() != '-' &&
         std::all_of(text.begin(), text.end(), [](char c) { return lower(c) || digit(c) || c == '-'; });
}
bool is_subdomain(std::string_view text) {
  if (text.empty() || text.back() == '.') return false;
  for (const std::string_view part : split_words(text, '.')) {
    if (!is_dns_label(part)) return false;
  }
  return true;
}
/// ([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]
bool is_qualified_part(std::string_view text) {
  return !text.empty() && alnum(text.front()) && alnum(text.back()) &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return alnum(c) || c == '-' || c == '_' || c == '.'; });
}

std::string too_long(std::size_t max) {
  return "must be no more than " + std::to_string(max) + " characters";
}

constexpr const char* kSubdomainText =
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
constexpr const char* kLabelText =
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
constexpr const char* kLabel1035Text =
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
    "character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')";
constexpr const char* kQualifiedText =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character "
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
constexpr const char* kLabelValueText =
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for "
    "validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
constexpr const char* kConfigKeyText =
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
    "'KEY_NAME',  or "
    "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

}  // namespace

std::string check_dns1123_subdomain(std::string_view name) {
  if (name.size() > kSubdomainMax) return too_long(kSubdomainMax);
  return is_subdomain(name) ? std::string() : kSubdomainText;
}

std::string check_dns1123_label(std::string_view name) {
  if (name.size() > kLabelMax) return too_long(kLabelMax);
  if (is_dns_label(name)) return {};
  return is_subdomain(name) ? "must not contain dots" : kLabelText;
}

std::string check_dns1035_label(std::string_view name) {
  if (name.size() > kLabelMax) return too_long(kLabelMax);
  return is_dns_label(name) && lower(name.front()) ? std::string() : kLabel1035Text;
}

std::string check_path_segment(std::string_view name) {
  if (name == "." || name == "..") return "may not be '" + std::string(name) + "'";
  if (name.find('/') != std::string_view::npos) return "may not contain '/'";
  if (name.find('%') != std::string_view::npos) return "may not contain '%'";
  return {};
}

std::string check_name(NameRule rule, std::string_view name) {
  switch (rule) {
    case NameRule::dns_label:
      return check_dns1123_label(name);
    case NameRule::rfc1035_label:
      return check_dns1035_label(name);
    case NameRule::path_segment:
      return check_path_segment(name);
    case NameRule::dns_subdomain:
      break;
  }
  return check_dns1123_subdomain(name);
}

std::string check_qualified_name(std::string_view key) {
  const std::size_t slash = key.find('/');
  std::string_view name = key;
  if (slash != std::string_view::npos) {
    const std::string_view prefix = key.substr(0, slash);
    name = key.substr(slash + 1);
    if (name.find('/') != std::string_view::npos) {
      return std::string("a qualified name ") + kQualifiedText +
             " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
    }
    if (prefix.empty()) return "prefix part must be non-empty";
    if (const std::string wrong = check_dns1123_subdomain(prefix); !wrong.empty())
      return "prefix part " + wrong;
  }
  if (name.empty()) return "name part must be non-empty";
  if (name.size() > kLabelMax) return "name part " + too_long(kLabelMax);
  return is_qualified_part(name) ? std::string() : std::string("name part ") + kQualifiedText;
}

std::string check_label_value(std::string_view value) {
  if (value.size() > kLabelMax) return too_long(kLabelMax);
  return value.empty() || is_qualified_part(value) ? std::string() : kLabelValueText;
}

std::string check_port_name(std::string_view name) {
  if (name.size() > 15) return too_long(15);
  const auto allowed = [](char c) { return lower(c) || digit(c) || c == '-'; };
  if (!std::all_of(name.begin(), name.end(), allowed)) {
    return "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";
  }
  if (std::none_of(name.begin(), name.end(), lower)) return "must contain at least one letter (a-z)";
  if (name.find("--") != std::string_view::npos) return "must not contain consecutive hyphens";
  if (name.front() == '-' || name.back() == '-') return "must not begin or end with a hyphen";
  return {};
}

std::string check_env_var_name(std::string_view name) {
  const bool valid = !name.empty() && std::all_of(name.begin(), name.end(),
                                                  [](char c) { return c >= ' ' && c <= '~' && c != '='; });
  if (valid) return {};
  return "a valid environment variable name must consist only of printable ASCII characters other than '='";
}

std::string check_config_map_key(std::string_view key) {
  if (key.size() > kSubdomainMax) return too_long(kSubdomainMax);
  const auto allowed = [](char c) { return alnum(c) || c == '-' || c == '_' || c == '.'; };
  if (key.empty() || !std::all_of(key.begin(), key.end(), allowed)) return kConfigKeyText;
  if (key == "." || key == "..") return "must not be '" + std::string(key) + "'";
  if (key.starts_with("..")) return "must not start with '..'";
  return {};
}

std::string generate_name(std::string_view base, Random& random) {
  static constexpr std::string_view kLetters = "bcdfghjklmnpqrstvwxz2456789";
  std::string name(base.substr(0, kGeneratedBaseMax));
  for (int i = 0; i < 5; ++i) name += kLetters[random.below(kLetters.size())];
  return name;
}

}  // namespace orchestra::api
