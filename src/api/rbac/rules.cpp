// Policy rules: does a rule allow a request, and do some rules cover others?
//
// Matching follows upstream pkg/apis/rbac/v1/evaluation_helpers.go, covering follows
// component-helpers/auth/rbac/validation/policy_comparator.go: both sides are broken down into rules with
// one verb, group, resource and name each, and every small one must be covered by some rule held.
#include "api/rbac/rules.hpp"

#include <algorithm>
#include <tuple>

namespace orchestra::api::rbac {
namespace {

bool has(const std::vector<std::string>& list, std::string_view word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}
std::vector<std::string> strings_of(const json::object& object, std::string_view key) {
  std::vector<std::string> out;
  for (const json::value& item : array_or_empty(object, key)) {
    if (item.is_string()) out.emplace_back(item.get_string());
  }
  return out;
}

/// "*", "a", "a/b", "*/b" against resource and subresource.
bool matches_resource(const PolicyRule& rule, const std::string& resource, const std::string& subresource) {
  const std::string combined = subresource.empty() ? resource : resource + "/" + subresource;
  for (const std::string& own : rule.resources) {
    if (own == "*" || own == combined) return true;
    if (!subresource.empty() && own.size() == subresource.size() + 2 && own.starts_with("*/") &&
        own.ends_with(subresource)) {
      return true;
    }
  }
  return false;
}
/// "*", an exact path, or a prefix with "*" at its end.
bool matches_path(const std::vector<std::string>& own, const std::string& path) {
  return std::any_of(own.begin(), own.end(), [&](const std::string& url) {
    return url == path || (url.ends_with('*') && path.starts_with(url.substr(0, url.size() - 1)));
  });
}
bool all_or(const std::vector<std::string>& own, const std::string& one) {
  return has(own, "*") || has(own, one);
}

std::vector<PolicyRule> broken_down(const PolicyRule& rule) {
  std::vector<PolicyRule> out;
  for (const std::string& verb : rule.verbs) {
    for (const std::string& url : rule.non_resource_urls)
      out.push_back({.verbs = {verb}, .non_resource_urls = {url}});
    for (const std::string& group : rule.api_groups) {
      for (const std::string& resource : rule.resources) {
        if (rule.resource_names.empty()) {
          out.push_back({.verbs = {verb}, .api_groups = {group}, .resources = {resource}});
        }
        for (const std::string& name : rule.resource_names) {
          out.push_back(
              {.verbs = {verb}, .api_groups = {group}, .resources = {resource}, .resource_names = {name}});
        }
      }
    }
  }
  return out;
}

/// `part` is broken down.
bool covers(const PolicyRule& rule, const PolicyRule& part) {
  if (!all_or(rule.verbs, part.verbs.front())) return false;
  if (!part.non_resource_urls.empty()) {
    return has(rule.non_resource_urls, "*") ||
           matches_path(rule.non_resource_urls, part.non_resource_urls.front());
  }
  if (!all_or(rule.api_groups, part.api_groups.front())) return false;
  const std::string& resource = part.resources.front();
  const std::size_t slash = resource.find('/');
  if (!matches_resource(rule, resource.substr(0, slash),
                        slash == std::string::npos ? "" : resource.substr(slash + 1))) {
    return false;
  }
  if (rule.resource_names.empty()) return true;
  return !part.resource_names.empty() && has(rule.resource_names, part.resource_names.front());
}

std::string quoted_list(const std::vector<std::string>& words) {
  std::string out = "[";
  for (const std::string& word : words) out += (out.size() > 1 ? " \"" : "\"") + word + "\"";
  return out + "]";
}
}  // namespace

PolicyRule rule_of(const json::object& rule) {
  return {.verbs = strings_of(rule, "verbs"),
          .api_groups = strings_of(rule, "apiGroups"),
          .resources = strings_of(rule, "resources"),
          .resource_names = strings_of(rule, "resourceNames"),
          .non_resource_urls = strings_of(rule, "nonResourceURLs")};
}

std::vector<PolicyRule> rules_of(const json::value& role) {
  std::vector<PolicyRule> out;
  if (const json::array* rules = array_at(role, "/rules")) {
    for (const json::value& rule : *rules) {
      if (rule.is_object()) out.push_back(rule_of(rule.get_object()));
    }
  }
  return out;
}

json::object rule_json(const PolicyRule& rule) {
  json::object out;
  const auto add = [&](const char* key, const std::vector<std::string>& words) {
    if (words.empty()) return;
    json::array list;
    for (const std::string& word : words) list.push_back(json::value(word));
    out[key] = std::move(list);
  };
  add("verbs", rule.verbs);
  add("apiGroups", rule.api_groups);
  add("resources", rule.resources);
  add("resourceNames", rule.resource_names);
  add("nonResourceURLs", rule.non_resource_urls);
  return out;
}

bool allows(const PolicyRule& rule, const AccessRequest& request) {
  if (!all_or(rule.verbs, request.verb)) return false;
  if (!request.is_resource) return matches_path(rule.non_resource_urls, request.path);
  return all_or(rule.api_groups, request.api_group) &&
         matches_resource(rule, request.resource, request.subresource) &&
         (rule.resource_names.empty() || has(rule.resource_names, request.name));
}

}  // namespace orchestra::api::rbac

namespace orchestra {

std::vector<PolicyRule> rules_not_covered(const std::vector<PolicyRule>& held,
                                          const std::vector<PolicyRule>& wanted) {
  std::vector<PolicyRule> missing;
  for (const PolicyRule& rule : wanted) {
    for (PolicyRule& part : api::rbac::broken_down(rule)) {
      const bool covered = std::any_of(held.begin(), held.end(),
                                       [&](const PolicyRule& own) { return api::rbac::covers(own, part); });
      if (!covered) missing.push_back(std::move(part));
    }
  }
  // What differs in the verb only becomes one rule again.
  const auto target = [](const PolicyRule& rule) {
    return std::tie(rule.api_groups, rule.resources, rule.resource_names, rule.non_resource_urls);
  };
  std::vector<PolicyRule> out;
  for (PolicyRule& part : missing) {
    const auto same = std::find_if(out.begin(), out.end(),
                                   [&](const PolicyRule& one) { return target(one) == target(part); });
    if (same == out.end()) {
      out.push_back(std::move(part));
    } else if (!api::rbac::has(same->verbs, part.verbs.front())) {
      same->verbs.push_back(part.verbs.front());
    }
  }
  std::sort(out.begin(), out.end(),
            [&](const PolicyRule& a, const PolicyRule& b) { return rule_text(a) < rule_text(b); });
  return out;
}

std::string rule_text(const PolicyRule& rule) {
  std::string out = "{";
  const auto add = [&](const char* key, const std::vector<std::string>& words) {
    if (words.empty()) return;
    if (out.size() > 1) out += ", ";
    out += std::string(key) + ":" + api::rbac::quoted_list(words);
  };
  add("APIGroups", rule.api_groups);
  add("Resources", rule.resources);
  add("NonResourceURLs", rule.non_resource_urls);
  add("ResourceNames", rule.resource_names);
  add("Verbs", rule.verbs);
  return out + "}";
}

std::optional<std::pair<std::string, std::string>> split_service_account(const std::string& user) {
  static const std::string kPrefix = "system:serviceaccount:";
  if (!user.starts_with(kPrefix)) return std::nullopt;
  const std::size_t colon = user.find(':', kPrefix.size());
  if (colon == std::string::npos) return std::nullopt;
  std::string ns = user.substr(kPrefix.size(), colon - kPrefix.size());
  std::string name = user.substr(colon + 1);
  if (ns.empty() || name.empty() || name.find(':') != std::string::npos) return std::nullopt;
  return std::pair(std::move(ns), std::move(name));
}

}  // namespace orchestra
