// A live cluster as the beginning of a simulation: its nodes by shape, what users wrote without what the
// cluster added (UIDs, status, addresses).
#include "sim/cluster/import.hpp"
#include "api/object_tree.hpp"
#include "base/json.hpp"
#include "base/yaml.hpp"

namespace orchestra {

using namespace sim;

namespace {

constexpr Duration kCallDeadline = std::chrono::seconds(30);

}  // namespace

SimNodes sim::shape_of(const Object& node) {
  SimNodes shape;
  shape.name = node.name();
  shape.exact_name = true;
  if (const json::object* amounts = object_at(tree(node), "/status/allocatable")) {
    for (const auto& [name, amount] : *amounts) {
      const std::string text = amount.is_string() ? std::string(amount.get_string()) : to_json(amount);
      if (name == "cpu") {
        shape.cpu = text;
      } else if (name == "memory") {
        shape.memory = text;
      } else if (name == "pods") {
        shape.pods = static_cast<std::size_t>(std::max(1, std::atoi(text.c_str())));
      } else if (name != "ephemeral-storage") {
        shape.resources[std::string(name)] = text;
      }
    }
  }
  shape.labels = node.labels();
  if (const auto zone = shape.labels.find("topology.kubernetes.io/zone"); zone != shape.labels.end())
    shape.zones = {zone->second};
  if (const json::array* taints = array_at(tree(node), "/spec/taints")) {
    for (const json::value& taint : *taints) {
      const std::string key = string_at(taint, "/key");
      // Those of the node controller come and go with the node's life.
      if (key.rfind("node.kubernetes.io/", 0) == 0) continue;
      shape.taints.push_back(key + "=" + string_at(taint, "/value") + ":" + string_at(taint, "/effect"));
    }
  }
  return shape;
}

bool sim::made_by_the_cluster(const Object& object) {
  const std::string& kind = object.kind();
  if (object.deleting() || object.controller() != nullptr) return true;
  if (kind == "Namespace" || kind == "PriorityClass")
    return object.name().rfind("kube-", 0) == 0 || object.name() == "default" ||
           object.name().rfind("system-", 0) == 0;
  if (kind == "ServiceAccount") return object.name() == "default";
  if (kind == "Service") return object.ns() == "default" && object.name() == "kubernetes";
  if (kind == "Pod" || kind == "Job") {
    const std::string phase = string_at(tree(object), "/status/phase");
    return phase == "Succeeded" || phase == "Failed" ||
           string_at(tree(object), "/status/completionTime") != "";
  }
  return false;
}

json::value sim::without_life(const Object& object) {
  json::value root = tree(object);
  root.get_object().erase("status");
  json::object& metadata = root.get_object()["metadata"].get_object();
  for (const char* key : {"uid", "resourceVersion", "creationTimestamp", "generation", "managedFields",
                          "selfLink", "ownerReferences", "finalizers"}) {
    metadata.erase(key);
  }
  const auto spec = root.get_object().find("spec");
  if (spec == root.get_object().end() || !spec->value().is_object()) return root;
  json::object& fields = spec->value().get_object();
  if (object.kind() == "Service" && string_at(spec->value(), "/clusterIP") != "None") {
    fields.erase("clusterIP");
    fields.erase("clusterIPs");
  }
  if (object.kind() == "Pod") fields.erase("nodeName");
  if (object.kind() == "PersistentVolumeClaim") fields.erase("volumeName");
  if (object.kind() == "Namespace") fields.erase("finalizers");
  if (object.kind() == "Job") {
    // The selector and the labels that the server drew.
    fields.erase("selector");
    for (const char* place : {"/spec/template/metadata", "/metadata"}) {
      if (json::value* at = const_cast<json::value*>(find(root, std::string(place) + "/labels"))) {
        for (const char* label : {"controller-uid", "batch.kubernetes.io/controller-uid", "job-name",
                                  "batch.kubernetes.io/job-name"}) {
          if (at->is_object()) at->get_object().erase(label);
        }
      }
    }
  }
  return root;
}

Result<void> import_objects(const std::vector<Object>& objects, SimScenario& scenario) {
  std::string text;
  for (const Object& object : objects) {
    if (object.kind() == "Node") {
      scenario.nodes.push_back(shape_of(object));
    } else if (!made_by_the_cluster(object)) {
      text += "---\n" + to_yaml(without_life(object));
    }
  }
  if (!text.empty()) scenario.objects.insert(scenario.objects.begin(), std::move(text));
  return scenario.check();
}

Result<void> import_cluster(const Client& client, SimScenario& scenario) {
  ORC_ASSIGN(const std::vector<Object> all, list_cluster(client));
  return import_objects(all, scenario);
}

Result<std::vector<Object>> list_cluster(const Client& client) {
  ORC_ASSIGN(const ObjectList nodes, client.list("v1", "nodes").wait(kCallDeadline));
  std::vector<Object> all = nodes.items;
  for (const ImportedResource& each : kImported) {
    auto list = client.list(each.api_version, each.resource).wait(kCallDeadline);
    if (!list && list.error().is(Error::not_found)) continue;  // not served there
    if (!list) return list.error().with_context(std::string("reading ") + each.resource);
    all.insert(all.end(), list->items.begin(), list->items.end());
  }
  return all;
}

}  // namespace orchestra
