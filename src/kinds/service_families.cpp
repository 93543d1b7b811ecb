#include "kinds/service_families.hpp"

#include "api/validate_hooks.hpp"

namespace orchestra::apiserver {
namespace {

using api::FieldPath;

constexpr const char* kFields[] = {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"};

void set_texts(json::object& spec, const char* field, const std::vector<std::string>& texts) {
  if (texts.empty()) {
    spec.erase(field);
    return;
  }
  json::array list;
  for (const std::string& text : texts) list.emplace_back(text);
  spec[field] = std::move(list);
}

std::string text_of(const json::object& spec, const char* field) {
  const json::value* value = spec.if_contains(field);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
}

std::string type_of(const json::object& spec) {
  const std::string type = text_of(spec, "type");
  return type.empty() ? "ClusterIP" : type;
}

bool same(const json::object& a, const json::object& b, const char* field) {
  return texts_of(a, field) == texts_of(b, field);
}

const json::object& spec_of(const json::value& service) {
  static const json::object kNone;
  const json::value* spec = find(service, "/spec");
  return spec != nullptr && spec->is_object() ? spec->get_object() : kNone;
}

std::string family_of(const std::string& address) {
  return address.find(':') == std::string::npos ? "IPv4" : "IPv6";
}
std::string other_family(const std::string& family) { return family == "IPv4" ? "IPv6" : "IPv4"; }

/// Clients that know one of the two fields only.
void follow_single_address(json::object& spec, const json::object* before) {
  const std::string single = text_of(spec, "clusterIP");
  if (before == nullptr) {
    if (!single.empty() && texts_of(spec, "clusterIPs").empty()) set_texts(spec, "clusterIPs", {single});
    return;
  }
  const std::string was = text_of(*before, "clusterIP");
  if (!texts_of(*before, "clusterIPs").empty() && texts_of(spec, "clusterIPs").empty() && was == single)
    set_texts(spec, "clusterIPs", texts_of(*before, "clusterIPs"));
  if (was == single || !same(spec, *before, "clusterIPs")) return;
  if (single.empty()) {
    spec.erase("clusterIPs");  // cleared, in one field by such a client
  } else {
    set_texts(spec, "clusterIPs", {single});
  }
}

/// What an update does not say stays; what a type has no use for goes, unless it was said anew.
void keep_or_drop(json::object& spec, const json::object& before) {
  if (type_of(before) == "ExternalName") return;
  if (type_of(spec) != "ExternalName") {
    if (text_of(spec, "clusterIP").empty() && before.contains("clusterIP"))
      spec["clusterIP"] = before.at("clusterIP");
    if (texts_of(spec, "clusterIPs").empty() && text_of(spec, "clusterIP") == text_of(before, "clusterIP"))
      set_texts(spec, "clusterIPs", texts_of(before, "clusterIPs"));
    return;
  }
  if (same(spec, before, "clusterIPs")) {
    spec.erase("clusterIP");
    spec.erase("clusterIPs");
  }
  if (same(spec, before, "ipFamilies")) spec.erase("ipFamilies");
  if (text_of(spec, "ipFamilyPolicy") == text_of(before, "ipFamilyPolicy")) spec.erase("ipFamilyPolicy");
}

/// A Service that prefers both is neither raised nor lowered because the cluster changed.
bool stays_as_preferred(const json::object& spec, const json::object& before) {
  const auto prefers = [](const std::string& policy) { return policy == "PreferDualStack"; };
  const std::string was = text_of(before, "ipFamilyPolicy");
  return prefers(text_of(spec, "ipFamilyPolicy")) && (was.empty() || prefers(was)) &&
         type_of(spec) == type_of(before) && same(spec, before, "clusterIPs") &&
         same(spec, before, "ipFamilies");
}

class Completion {
 public:
  Completion(json::object& spec, const json::object* before, const ClusterFamilies& cluster,
             api::FieldErrors& errors)
      : spec_(spec), before_(before), cluster_(cluster), errors_(errors) {}

  void run() {
    choose_policy();
    api::validate_service_families(spec_, kSpec, errors_);
    if (!errors_.empty()) return;
    if (before_ != nullptr) compare_with_before();
    check_single();
    infer_families();
    if (!errors_.empty()) return;
    std::vector<std::string> families = texts_of(spec_, "ipFamilies");
    // Endpoints of these are somebody else's, of whatever family: a cluster of one family serves them too.
    const bool free_choice = text_of(spec_, "clusterIP") == "None" && selects_nothing();
    if (!free_choice) check_cluster(families);
    if (!errors_.empty()) return;
    if (families.empty()) families.push_back(cluster_.first);
    if (families.size() == 1 && policy() != "SingleStack" && (free_choice || cluster_.both))
      families.push_back(other_family(families.front()));
    set_texts(spec_, "ipFamilies", families);
  }

 private:
  std::string policy() const { return text_of(spec_, "ipFamilyPolicy"); }
  void refuse_policy(const char* why) {
    const std::string shown = policy();
    errors_.invalid(kSpec / "ipFamilyPolicy", std::string_view(shown), why);
  }
  bool selects_nothing() const {
    const json::value* selector = spec_.if_contains("selector");
    return selector == nullptr || !selector->is_object() || selector->get_object().empty();
  }

  void choose_policy() {
    if (!policy().empty()) return;
    if (before_ != nullptr && !text_of(*before_, "ipFamilyPolicy").empty()) {
      spec_["ipFamilyPolicy"] = before_->at("ipFamilyPolicy");
    } else if (text_of(spec_, "clusterIP") == "None" && selects_nothing()) {
      spec_["ipFamilyPolicy"] = "RequireDualStack";
    } else {
      spec_["ipFamilyPolicy"] = "SingleStack";
    }
  }

  void compare_with_before() {
    const auto shortened = [&](const char* field) {
      return texts_of(*before_, field).size() == 2 && texts_of(spec_, field).size() == 1;
    };
    if (policy() == "SingleStack") {
      // Nothing else was changed: the intent is clear.
      for (const char* field : {"clusterIPs", "ipFamilies"}) {
        std::vector<std::string> texts = texts_of(spec_, field);
        if (texts.size() < 2 || !same(spec_, *before_, field)) continue;
        texts.resize(1);
        set_texts(spec_, field, texts);
      }
      return;
    }
    if (shortened("clusterIPs")) refuse_policy("must be 'SingleStack' to release the secondary cluster IP");
    if (shortened("ipFamilies")) refuse_policy("must be 'SingleStack' to release the secondary IP family");
  }

  void check_single() {
    if (policy() != "SingleStack") return;
    if (texts_of(spec_, "clusterIPs").size() == 2)
      refuse_policy(
          "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified");
    if (texts_of(spec_, "ipFamilies").size() == 2)
      refuse_policy(
          "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified");
  }

  void infer_families() {
    const std::vector<std::string> addresses = texts_of(spec_, "clusterIPs");
    std::vector<std::string> families = texts_of(spec_, "ipFamilies");
    const FieldPath ips = kSpec / "clusterIPs";
    for (std::size_t i = families.size(); i < addresses.size() && addresses[i] != "None"; ++i) {
      const std::string family = family_of(addresses[i]);
      if (!cluster_.has(family)) {
        errors_.invalid(ips[i], *spec_.if_contains("clusterIPs"),
                        family + " is not configured on this cluster");
      } else {
        families.push_back(family);
      }
    }
    set_texts(spec_, "ipFamilies", families);
  }

  void check_cluster(const std::vector<std::string>& families) {
    if (policy() == "RequireDualStack" && !cluster_.both)
      refuse_policy("this cluster is not configured for dual-stack services");
    const FieldPath list = kSpec / "ipFamilies";
    for (std::size_t i = 0; i < families.size(); ++i) {
      if (!cluster_.has(families[i]))
        errors_.invalid(list[i], std::string_view(families[i]), "not configured on this cluster");
    }
  }

  const FieldPath kSpec{"spec"};
  json::object& spec_;
  const json::object* const before_;
  const ClusterFamilies cluster_;
  api::FieldErrors& errors_;
};

}  // namespace

std::vector<std::string> texts_of(const json::object& spec, const char* field) {
  std::vector<std::string> out;
  const json::value* list = spec.if_contains(field);
  if (list == nullptr || !list->is_array()) return out;
  for (const json::value& one : list->get_array()) {
    if (one.is_string()) out.emplace_back(one.get_string());
  }
  return out;
}

std::vector<std::string> held_addresses(const json::value& service) {
  const json::object& spec = spec_of(service);
  std::vector<std::string> out = texts_of(spec, "clusterIPs");
  if (out.empty()) out.push_back(text_of(spec, "clusterIP"));
  std::erase_if(out, [](const std::string& text) { return text.empty() || text == "None"; });
  return out;
}

void complete_service_families(json::value& service, const json::value* old, const ClusterFamilies& cluster,
                               api::FieldErrors& errors) {
  json::value& root = service.get_object()["spec"];
  if (!root.is_object()) root = json::object();
  json::object& spec = root.get_object();
  for (const char* field : kFields) {
    if (spec.contains(field) && spec.at(field).is_null()) spec.erase(field);
  }
  const json::object* before = old == nullptr ? nullptr : &spec_of(*old);
  if (before != nullptr) keep_or_drop(spec, *before);
  follow_single_address(spec, before);
  if (type_of(spec) == "ExternalName") return;
  if (before != nullptr && stays_as_preferred(spec, *before)) return;
  Completion(spec, before, cluster, errors).run();
}

}  // namespace orchestra::apiserver
