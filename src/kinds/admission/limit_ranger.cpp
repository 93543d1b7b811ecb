// LimitRange: defaults of containers, then minimum, maximum and ratio per container, pod and claim.
//
// Upstream plugin/pkg/admission/limitranger/admission.go; the texts are its.
#include <optional>

#include "api/meta.hpp"
#include "apiserver/admission/plugins.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::size_t kRangesMax = 1000;
constexpr const char* kAnnotation = "kubernetes.io/limit-ranger";

std::optional<Quantity> quantity_of(const json::value& value) {
  if (value.is_string()) {
    auto parsed = Quantity::parse(value.get_string());
    if (parsed) return *parsed;
  }
  if (value.is_int64()) return Quantity::from_int(value.get_int64());
  return std::nullopt;
}

/// Requests and limits of one thing that a range judges.
struct Resources {
  Usage requests, limits;
};
void add_list(Usage& out, const json::object* list, bool maximum) {
  if (list == nullptr) return;
  for (const auto& [name, value] : *list) {
    const auto amount = quantity_of(value);
    if (!amount) continue;
    Quantity& sum = out[std::string(name)];
    if (!maximum) {
      sum += *amount;
    } else if (*amount > sum) {
      sum = *amount;
    }
  }
}
Resources resources_of(const json::value& container) {
  Resources out;
  add_list(out.requests, object_at(container, "/resources/requests"), false);
  add_list(out.limits, object_at(container, "/resources/limits"), false);
  return out;
}
// A pod: the sum of its containers, or its largest init container where that is more. A bound of the pod
// holds only if every container has one.
Resources resources_of_pod(const json::value& pod) {
  Resources out;
  for (const char* kind : {"requests", "limits"}) {
    Usage& sum = std::string_view(kind) == "requests" ? out.requests : out.limits;
    const std::string pointer = std::string("/resources/") + kind;
    std::map<std::string, std::size_t> seen;
    std::size_t count = 0;
    if (const json::array* containers = array_at(pod, "/spec/containers")) {
      count = containers->size();
      for (const json::value& container : *containers) {
        const json::object* list = object_at(container, pointer);
        add_list(sum, list, false);
        if (list == nullptr) continue;
        for (const auto& entry : *list) ++seen[std::string(entry.key())];
      }
    }
    if (const json::array* containers = array_at(pod, "/spec/initContainers")) {
      for (const json::value& container : *containers) {
        const bool sidecar = string_at(container, "/restartPolicy") == "Always";
        add_list(sum, object_at(container, pointer), !sidecar);
      }
    }
    for (const auto& [name, times] : seen) {
      if (times < count) sum.erase(name);
    }
  }
  return out;
}

class Judge {
 public:
  Judge(const json::value& item, const Resources& have)
      : item_(item), have_(have), type_(string_at(item, "/type")) {}

  void judge(std::vector<std::string>& errors) const {
    const bool claim = type_ == "PersistentVolumeClaim";
    each("/min", [&](const std::string& name, const Quantity& bound, const std::string& text) {
      const auto request = value(have_.requests, name);
      const auto limit = value(have_.limits, name);
      const std::string head = "minimum " + name + " usage per " + type_ + " is " + text;
      if (!request) {
        errors.push_back(head + ".  No request is specified");
      } else if (*request < bound) {
        errors.push_back(head + ", but request is " + request->to_string());
      } else if (limit && *limit < bound && !claim) {
        errors.push_back(head + ", but limit is " + limit->to_string());
      }
    });
    each("/max", [&](const std::string& name, const Quantity& bound, const std::string& text) {
      const auto request = value(have_.requests, name);
      const auto limit = value(have_.limits, name);
      const std::string head = "maximum " + name + " usage per " + type_ + " is " + text;
      if (claim) {
        if (request && *request > bound) errors.push_back(head + ", but request is " + request->to_string());
      } else if (!limit) {
        errors.push_back(head + ".  No limit is specified");
      } else if (*limit > bound) {
        errors.push_back(head + ", but limit is " + limit->to_string());
      } else if (request && *request > bound) {
        errors.push_back(head + ", but request is " + request->to_string());
      }
    });
    each("/maxLimitRequestRatio",
         [&](const std::string& name, const Quantity& bound, const std::string& text) {
           const auto request = value(have_.requests, name);
           const auto limit = value(have_.limits, name);
           const std::string head = name + " max limit to request ratio per " + type_ + " is " + text;
           if (!request || request->is_zero() || !limit || limit->is_zero()) {
             errors.push_back(head + ", but no " + (!request || request->is_zero() ? "request" : "limit") +
                              " is specified or " + (!request || request->is_zero() ? "request" : "limit") +
                              " is 0");
             return;
           }
           const double ratio = limit->as_double() / request->as_double();
           if (ratio > bound.as_double()) {
             char number[64];
             std::snprintf(number, sizeof number, "%f", ratio);
             errors.push_back(head + ", but provided ratio is " + number);
           }
         });
  }

 private:
  template <class F>
  void each(const char* pointer, F call) const {
    const json::object* list = object_at(item_, pointer);
    if (list == nullptr) return;
    for (const auto& [name, value] : *list) {
      if (const auto bound = quantity_of(value)) call(std::string(name), *bound, bound->to_string());
    }
  }
  static std::optional<Quantity> value(const Usage& usage, const std::string& name) {
    const auto found = usage.find(name);
    return found == usage.end() ? std::nullopt : std::optional<Quantity>(found->second);
  }
  const json::value& item_;
  const Resources& have_;
  std::string type_;
};

/// Names of resources that were filled in, for the annotation.
std::string fill(json::object& container, const char* kind, const json::object& defaults) {
  json::value& resources = container["resources"];
  if (!resources.is_object()) resources = json::object();
  json::value* list = resources.get_object().if_contains(kind);
  std::string names;
  for (const auto& [name, value] : defaults) {
    if (list != nullptr && list->is_object() && list->get_object().contains(name)) continue;
    if (list == nullptr || !list->is_object()) {
      resources.get_object()[kind] = json::object();
      list = resources.get_object().if_contains(kind);
    }
    list->get_object()[name] = value;
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  return names;
}

// Defaults as the API fills them in: default <- max, defaultRequest <- default, then min.
void effective_defaults(const json::value& item, json::object& limits, json::object& requests) {
  const auto add = [](json::object& to, const json::object* from) {
    if (from == nullptr) return;
    for (const auto& [name, value] : *from) {
      if (!to.contains(name)) to[name] = value;
    }
  };
  add(limits, object_at(item, "/default"));
  add(limits, object_at(item, "/max"));
  add(requests, object_at(item, "/defaultRequest"));
  add(requests, &limits);
  add(requests, object_at(item, "/min"));
}

void fill_pod(json::value& pod, const std::vector<json::value>& ranges) {
  json::object limits;
  json::object requests;
  for (const json::value& range : ranges) {
    if (const json::array* items = array_at(range, "/spec/limits")) {
      for (const json::value& item : *items) {
        if (string_at(item, "/type") == "Container") effective_defaults(item, limits, requests);
      }
    }
  }
  if (limits.empty() && requests.empty()) return;
  std::string notes;
  for (const char* list : {"containers", "initContainers"}) {
    json::value* containers = const_cast<json::value*>(find(pod, std::string("/spec/") + list));
    if (containers == nullptr || !containers->is_array()) continue;
    const std::string what = std::string_view(list) == "containers" ? "container " : "init container ";
    for (json::value& container : containers->get_array()) {
      if (!container.is_object()) continue;
      const std::string name = string_at(container, "/name");
      const std::string asked = fill(container.get_object(), "requests", requests);
      const std::string bounded = fill(container.get_object(), "limits", limits);
      if (!asked.empty()) notes += (notes.empty() ? "" : "; ") + asked + " request for " + what + name;
      if (!bounded.empty()) notes += (notes.empty() ? "" : "; ") + bounded + " limit for " + what + name;
    }
  }
  if (notes.empty()) return;
  json::value& annotations = api::metadata(pod)["annotations"];
  if (!annotations.is_object()) annotations = json::object();
  annotations.get_object()[kAnnotation] = "LimitRanger plugin set: " + notes;
}

void judge_pod(const json::value& pod, const json::value& item, std::vector<std::string>& errors) {
  const std::string type = string_at(item, "/type");
  if (type == "Container") {
    for (const char* list : {"/spec/containers", "/spec/initContainers"}) {
      const json::array* containers = array_at(pod, list);
      if (containers == nullptr) continue;
      for (const json::value& container : *containers) {
        const Resources have = resources_of(container);
        Judge(item, have).judge(errors);
      }
    }
  } else if (type == "Pod") {
    const Resources have = resources_of_pod(pod);
    Judge(item, have).judge(errors);
  }
}
}  // namespace

Result<void> admit_limit_ranges(Admission& admission) {
  const bool pod = is_type(admission, "", "pods");
  const bool claim = is_type(admission, "", "persistentvolumeclaims");
  if (!(pod || claim) || admission.object == nullptr) return {};
  if (pod && !creates(admission) && !resizes(admission)) return {};  // then resources do not change
  ORC_ASSIGN(const auto found,
             admission.view.range(objects_range({"", "limitranges"}, admission.input.ns()), kRangesMax));
  if (found.empty()) return {};
  std::vector<json::value> ranges;
  for (const KeyValue& kv : found) {
    ORC_ASSIGN(const StoredView stored, decode_stored_frame(kv.value.bytes()));
    ORC_ASSIGN(json::value tree, parse_json(stored.json));
    ranges.push_back(std::move(tree));
  }
  json::value& object = *admission.object;
  if (pod && creates(admission)) fill_pod(object, ranges);
  std::vector<std::string> errors;
  for (const json::value& range : ranges) {
    const json::array* items = array_at(range, "/spec/limits");
    if (items == nullptr) continue;
    for (const json::value& item : *items) {
      if (pod) {
        judge_pod(object, item, errors);
      } else if (string_at(item, "/type") == "PersistentVolumeClaim") {
        const Resources have = resources_of(json::object{
            {"resources", find(object, "/spec/resources") == nullptr ? json::value(json::object())
                                                                     : *find(object, "/spec/resources")}});
        Judge(item, have).judge(errors);
      }
    }
  }
  if (errors.empty()) return {};
  std::string why = errors.size() > 1 ? "[" : "";
  for (std::size_t i = 0; i < errors.size(); ++i) why += (i > 0 ? ", " : "") + errors[i];
  return deny(admission, errors.size() > 1 ? why + "]" : why);
}

}  // namespace orchestra::apiserver
