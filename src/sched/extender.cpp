// See extender.hpp. Upstream: kubernetes/pkg/scheduler/extender.go.
#include "sched/extender.hpp"

#include <algorithm>
#include <set>

#include "api/object_tree.hpp"
#include "base/json.hpp"

namespace orchestra::sched {

namespace {

constexpr std::int64_t kPriorityMax = 10;
constexpr std::size_t kReasonBytesMax = 1024;  // of one node; it stands in conditions and Events

Error wrong(const std::string& what) { return Error(Error::invalid, "scheduler", what); }

bool same_letters(std::string_view a, std::string_view b) {
  const auto lower = [](char letter) {
    return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter + 32) : letter;
  };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](char x, char y) { return lower(x) == lower(y); });
}

// nullptr: not there, or null.
const json::value* member(const json::value& object, std::string_view name) {
  if (!object.is_object()) return nullptr;
  for (const auto& [key, value] : object.get_object()) {
    if (same_letters(key, name) && !value.is_null()) return &value;
  }
  return nullptr;
}

Result<std::string> text_of(const json::value* value, const char* what) {
  if (value == nullptr) return std::string();
  if (!value->is_string()) return wrong(std::string(what) + " is no text");
  return std::string(value->get_string());
}

bool names_managed(const SchedulerExtender& extender, const json::value& pod, const char* list) {
  const json::array* containers = array_at(pod, list);
  if (containers == nullptr) return false;
  for (const json::value& container : *containers) {
    for (const char* amounts : {"/resources/requests", "/resources/limits"}) {
      const json::object* found = object_at(container, amounts);
      if (found == nullptr) continue;
      for (const auto& [name, amount] : *found) {
        if (extender.managed_resources.contains(std::string(name))) return true;
      }
    }
  }
  return false;
}

// FailedNodes and FailedAndUnresolvableNodes.
Result<void> read_reasons(const json::value* map, std::map<std::string, std::string>& reasons) {
  if (map == nullptr) return {};
  if (!map->is_object()) return wrong("its failed nodes are no map");
  for (const auto& [node, why] : map->get_object()) {
    ORC_ASSIGN(std::string text, text_of(&why, "the reason of a failed node"));
    if (text.size() > kReasonBytesMax) text.resize(kReasonBytesMax);
    reasons[std::string(node)] = std::move(text);
  }
  return {};
}

}  // namespace

bool is_interested(const SchedulerExtender& extender, const Object& pod) {
  return extender.managed_resources.empty() || names_managed(extender, tree(pod), "/spec/containers") ||
         names_managed(extender, tree(pod), "/spec/initContainers");
}

std::string extender_args(const SchedulerExtender& extender, const Object& pod,
                          const std::vector<std::string>& nodes,
                          const std::function<Object(const std::string&)>& node_named) {
  std::string text = "{\"Pod\":" + std::string(pod.json()) + ",\"Nodes\":";
  if (extender.node_cache_capable) {
    json::array names;
    for (const std::string& name : nodes) names.emplace_back(name);
    return text + "null,\"NodeNames\":" + to_json(names) + "}";
  }
  text += "{\"metadata\":{},\"items\":[";
  bool first = true;
  for (const std::string& name : nodes) {
    const Object node = node_named(name);
    if (!node) continue;
    if (!std::exchange(first, false)) text += ",";
    text += node.json();
  }
  return text + "]},\"NodeNames\":null}";
}

Result<ExtenderVerdict> read_verdict(const SchedulerExtender& extender, std::string_view answer,
                                     const std::vector<std::string>& nodes) {
  ORC_ASSIGN(const json::value root, parse_json(answer));
  if (!root.is_object()) return wrong("its answer is no object");
  ORC_ASSIGN(const std::string error, text_of(member(root, "Error"), "Error"));
  if (!error.empty()) return wrong(error.substr(0, kReasonBytesMax));
  std::map<std::string, std::string> reasons;
  ORC_TRY(read_reasons(member(root, "FailedNodes"), reasons));
  ORC_TRY(read_reasons(member(root, "FailedAndUnresolvableNodes"), reasons));
  std::set<std::string> passed;
  const json::value* names = extender.node_cache_capable ? member(root, "NodeNames") : nullptr;
  const json::value* whole = member(root, "Nodes");
  if (names != nullptr) {
    if (!names->is_array()) return wrong("NodeNames is no list");
    for (const json::value& each : names->get_array()) {
      ORC_ASSIGN(std::string name, text_of(&each, "a name of a node"));
      passed.insert(std::move(name));
    }
  } else if (whole != nullptr) {
    const json::value* items = member(*whole, "items");
    if (items != nullptr && !items->is_array()) return wrong("Nodes is no list");
    for (const json::value& each : items == nullptr ? json::array() : items->get_array())
      passed.insert(string_at(each, "/metadata/name"));
  }
  ExtenderVerdict verdict;
  for (const std::string& node : nodes) {
    if (passed.erase(node) != 0) {
      verdict.left.push_back(node);
      continue;
    }
    const auto why = reasons.find(node);
    verdict.refused[node] = why != reasons.end() && !why->second.empty()
                                ? why->second
                                : "node(s) were refused by the extender " + extender.url;
  }
  if (!passed.empty())
    return wrong("it lets through the node \"" + *passed.begin() + "\", about which it was not asked");
  return verdict;
}

Result<std::map<std::string, std::int64_t>> read_priorities(std::string_view answer,
                                                            const std::vector<std::string>& nodes) {
  ORC_ASSIGN(const json::value root, parse_json(answer));
  std::map<std::string, std::int64_t> scores;
  for (const std::string& node : nodes) scores[node] = 0;
  if (root.is_null()) return scores;
  if (!root.is_array()) return wrong("its priorities are no list");
  for (const json::value& each : root.get_array()) {
    ORC_ASSIGN(const std::string host, text_of(member(each, "Host"), "Host"));
    const json::value* score = member(each, "Score");
    if (score != nullptr && !score->is_int64()) return wrong("the score of " + host + " is no whole number");
    const std::int64_t value = score == nullptr ? 0 : score->get_int64();
    if (value < 0 || value > kPriorityMax)
      return wrong("the score " + std::to_string(value) + " of " + host + " is outside of 0..10");
    if (const auto known = scores.find(host); known != scores.end()) known->second = value;
  }
  return scores;
}

std::string extender_binding(const Object& pod, const std::string& node) {
  return to_json(json::object{
      {"PodName", pod.name()}, {"PodNamespace", pod.ns()}, {"PodUID", pod.uid()}, {"Node", node}});
}

Result<void> read_binding(std::string_view answer) {
  ORC_ASSIGN(const json::value root, parse_json(answer));
  ORC_ASSIGN(const std::string error, text_of(member(root, "Error"), "Error"));
  if (!error.empty()) return wrong(error.substr(0, kReasonBytesMax));
  return {};
}

}  // namespace orchestra::sched
