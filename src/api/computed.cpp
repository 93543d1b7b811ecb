// See computed.hpp.
#include "api/computed.hpp"

#include <optional>

namespace orchestra::api {
namespace {

/// As upstream names them: the store, and the parts that run in this very process.
json::array component_statuses(const ComputeInput& input) {
  json::array out;
  for (const char* name : {"controller-manager", "etcd-0", "scheduler"}) {
    const bool store = std::string_view(name) == "etcd-0";
    const bool healthy = !store || input.store_healthy;
    json::object condition{{"type", "Healthy"},
                           {"status", healthy ? "True" : "False"},
                           {"message", healthy ? "ok" : "the store does not answer"}};
    out.push_back(json::object{{"apiVersion", "v1"},
                               {"kind", "ComponentStatus"},
                               {"metadata", json::object{{"name", name}, {"creationTimestamp", nullptr}}},
                               {"conditions", json::array{std::move(condition)}}});
  }
  return out;
}

}  // namespace

std::optional<json::array> compute_objects(const TypeRecord& type, const ComputeInput& input) {
  if (type.group.empty() && type.plural == "componentstatuses") return component_statuses(input);
  return std::nullopt;
}

}  // namespace orchestra::api
