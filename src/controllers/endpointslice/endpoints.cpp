// Endpoints controller (kubernetes/pkg/controller/endpoint): the older, single object per Service that some
// clients still read. Addresses with equal ports share a subset; more than 1000 are cut and the object says
// so.
#include <map>

#include "controllers/endpointslice/decide.hpp"
#include "controllers/endpointslice/members.hpp"

namespace orchestra::controllers {

namespace {

constexpr const char* kOverCapacity = "endpoints.kubernetes.io/over-capacity";

struct Subset {
  json::array ports, ready, not_ready;
};

json::object address_of(const Object& service, const Member& member) {
  const json::value& pod = tree(member.pod);
  json::object address{{"ip", member.address}};
  const std::string hostname = string_at(pod, "/spec/hostname");
  if (!hostname.empty() && string_at(pod, "/spec/subdomain") == service.name())
    address["hostname"] = hostname;
  const std::string node = string_at(pod, "/spec/nodeName");
  if (!node.empty()) address["nodeName"] = node;
  address["targetRef"] = target_reference(member.pod);
  return address;
}

json::array ports_without_empty_names(const json::array& ports) {
  json::array out;
  for (json::value port : ports) {
    if (string_at(port, "/name").empty()) port.get_object().erase("name");
    out.push_back(std::move(port));
  }
  return out;
}

// Subsets in the order of their ports; ready addresses are kept first when there are too many.
json::array subsets_of(const Object& service, const View& view, bool& truncated) {
  const bool publish_all = bool_at(tree(service), "/spec/publishNotReadyAddresses");
  const json::array* declared = array_at(tree(service), "/spec/ports");
  const bool has_ports = declared != nullptr && !declared->empty();
  std::map<std::string, Subset> subsets;
  std::size_t kept = 0;
  const std::vector<Member> members = members_of(service, families_of(service).front(), view);
  for (const bool ready : {true, false}) {
    for (const Member& member : members) {
      if (member.ready != ready || (member.terminating && !publish_all)) continue;
      // None of the named ports is there: nothing to connect to. A headless service may have no ports at all.
      if (member.ports.empty() && has_ports) continue;
      if (kept == kEndpointsMax) {
        truncated = true;
        continue;
      }
      ++kept;
      Subset& subset = subsets[canonical_text(member.ports)];
      subset.ports = ports_without_empty_names(member.ports);
      (ready ? subset.ready : subset.not_ready).push_back(address_of(service, member));
    }
  }
  json::array out;
  for (auto& [key, subset] : subsets) {
    json::object entry;
    if (!subset.ready.empty()) entry["addresses"] = std::move(subset.ready);
    if (!subset.not_ready.empty()) entry["notReadyAddresses"] = std::move(subset.not_ready);
    if (!subset.ports.empty()) entry["ports"] = std::move(subset.ports);
    out.push_back(std::move(entry));
  }
  return out;
}

class EndpointsReconciler final : public Reconciler {
 public:
  std::string name() const override { return "endpoints"; }

  std::vector<Source> sources() const override {
    return {watch_self(services()), watch_pods_of_services(), watch_self(endpoints())};
  }

  Actions decide(const std::string& key, const View& view, Now) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const Object service = view.get(services(), id.ns, id.name);
    const Object present = view.get(endpoints(), id.ns, id.name);
    if (!service) {
      // Ours carry the mark; those that users made without a service stay.
      if (present && present.labels().contains(kManaged) && !present.deleting()) {
        actions.remove(endpoints(), present, "its service is gone", true);
      }
      return actions;
    }
    if (service.deleting() || !has_selector(service)) return actions;

    bool truncated = false;
    const json::value subsets = subsets_of(service, view, truncated);
    json::object labels;
    for (const auto& [name, value] : service.labels()) labels[name] = value;
    if (string_at(tree(service), "/spec/clusterIP") == "None") labels[kHeadless] = "";
    labels[kManaged] = "endpoint-controller";
    const json::value wanted_labels = labels;

    json::value root =
        present ? tree(present)
                : json::value(json::object{{"apiVersion", "v1"},
                                           {"kind", "Endpoints"},
                                           {"metadata", {{"name", id.name}, {"namespace", id.ns}}}});
    const bool was_truncated = present && annotation(present, kOverCapacity).has_value();
    if (present && same_meaning(find(root, "/subsets"), &subsets) && was_truncated == truncated &&
        same_meaning(find(root, "/metadata/labels"), &wanted_labels)) {
      return actions;
    }
    set_at(root, "/metadata/labels", wanted_labels);
    if (truncated) {
      object_in(root, "/metadata/annotations")[kOverCapacity] = "truncated";
    } else if (was_truncated) {
      object_in(root, "/metadata/annotations").erase(kOverCapacity);
    }
    set_at(root, "/subsets", subsets);
    Object object = object_from_tree(std::move(root));
    if (present) {
      actions.update(endpoints(), std::move(object), "the pods of the service changed");
    } else {
      actions.create(endpoints(), std::move(object), "the service has none");
    }
    return actions;
  }

 private:
  static constexpr const char* kManaged = "endpoints.kubernetes.io/managed-by";
};

}  // namespace

std::shared_ptr<const Reconciler> make_endpoints_reconciler() {
  return std::make_shared<EndpointsReconciler>();
}

}  // namespace orchestra::controllers
