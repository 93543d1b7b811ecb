// EndpointSlice controller (staging/src/k8s.io/endpointslice/reconciler.go).
//
// One slice holds endpoints of one address family and one set of port numbers. A change of one pod is one
// write: an endpoint stays in the slice where it is, new ones fill slices that are written anyway, then those
// with room, then new slices. Terminating pods stay listed (ready: false) as long as they have an address, so
// that balancers may fall back to those that still serve.
#include "controllers/endpointslice/decide.hpp"

#include <algorithm>
#include <map>

#include "controllers/endpointslice/members.hpp"

namespace orchestra::controllers {

namespace {

constexpr const char* kManagedBy = "endpointslice.kubernetes.io/managed-by";
constexpr const char* kManager = "endpointslice-controller.k8s.io";

std::string zone_of(const std::string& node_name, const View& view) {
  const Object node = node_name.empty() ? Object() : view.get(nodes(), {}, node_name);
  if (!node) return {};
  const auto zone = node.labels().find("topology.kubernetes.io/zone");
  return zone == node.labels().end() ? std::string() : zone->second;
}

/// Who decides about hints: the annotation of topology-aware routing goes before the field, and gives none
/// here.
std::string distribution_of(const Object& service) {
  for (const char* key :
       {"service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints"}) {
    const std::string mode = annotation(service, key).value_or("");
    if (mode == "Auto" || mode == "auto") return {};
  }
  return string_at(tree(service), "/spec/trafficDistribution");
}

/// spec.trafficDistribution (endpointslice/trafficdist): an endpoint that is ready is for its own zone, and
/// for its own node where that is preferred. Proxies heed hints only where every ready endpoint has them.
json::object hints_of(const std::string& distribution, const std::string& node, const std::string& zone) {
  json::object hints;
  const bool same_node = distribution == "PreferSameNode";
  if (!same_node && distribution != "PreferSameZone" && distribution != "PreferClose") return hints;
  if (!zone.empty()) hints["forZones"] = json::array{json::object{{"name", zone}}};
  if (same_node && !node.empty()) hints["forNodes"] = json::array{json::object{{"name", node}}};
  return hints;
}

json::object endpoint_of(const Object& service, const Member& member, const View& view) {
  const json::value& pod = tree(member.pod);
  json::object endpoint{
      {"addresses", json::array{member.address}},
      {"conditions",
       {{"ready", member.ready}, {"serving", member.serving}, {"terminating", member.terminating}}}};
  const std::string hostname = string_at(pod, "/spec/hostname");
  if (!hostname.empty() && string_at(pod, "/spec/subdomain") == service.name())
    endpoint["hostname"] = hostname;
  const std::string node = string_at(pod, "/spec/nodeName");
  if (!node.empty()) endpoint["nodeName"] = node;
  const std::string zone = zone_of(node, view);
  if (!zone.empty()) endpoint["zone"] = zone;
  endpoint["targetRef"] = target_reference(member.pod);
  if (!member.ready) return endpoint;
  if (json::object hints = hints_of(distribution_of(service), node, zone); !hints.empty())
    endpoint["hints"] = std::move(hints);
  return endpoint;
}

json::object labels_of(const Object& service) {
  json::object labels;
  for (const auto& [name, value] : service.labels()) labels[name] = value;
  if (string_at(tree(service), "/spec/clusterIP") == "None") labels[kHeadless] = "";
  labels[kManagedBy] = kManager;
  labels[kServiceName] = service.name();
  return labels;
}

json::value new_slice(const Object& service, const std::string& family, const json::array& ports) {
  return json::object{{"apiVersion", "discovery.k8s.io/v1"},
                      {"kind", "EndpointSlice"},
                      {"metadata",
                       {{"generateName", service.name() + "-"},
                        {"namespace", service.ns()},
                        {"labels", labels_of(service)},
                        {"ownerReferences", json::array{controller_reference(service)}}}},
                      {"addressType", family},
                      {"endpoints", json::array()},
                      {"ports", ports}};
}

// One slice while the answer is worked out.
struct Draft {
  Object present;  // empty: new
  json::value root;
  bool changed = false;
  json::array& endpoints() { return array_in(root, "/endpoints"); }
};

// All endpoints that share a family and port numbers.
struct Group {
  std::string family;
  json::array ports;
  std::map<std::string, json::object> wanted;  // by pod uid
};

std::string group_key(const std::string& family, const json::value* ports) {
  std::vector<std::string> each;
  if (ports != nullptr && ports->is_array()) {
    for (const json::value& port : ports->get_array()) each.push_back(canonical_text(port));
  }
  std::sort(each.begin(), each.end());
  std::string key = family;
  for (const std::string& text : each) key += "|" + text;
  return key;
}

// Keeps what is still wanted where it is; what remains in `wanted` has no slice yet.
void keep_present(Draft& draft, std::map<std::string, json::object>& wanted) {
  json::array kept;
  for (const json::value& endpoint : draft.endpoints()) {
    const auto found = wanted.find(string_at(endpoint, "/targetRef/uid"));
    if (found == wanted.end()) {
      draft.changed = true;
      continue;
    }
    const json::value fresh = found->second;
    if (!same_meaning(&endpoint, &fresh)) draft.changed = true;
    kept.push_back(fresh);
    wanted.erase(found);
  }
  draft.endpoints() = std::move(kept);
}

void place_new(const Object& service, const Group& group, std::map<std::string, json::object>& wanted,
               std::vector<Draft>& drafts) {
  // Slices that are written anyway first, then the fullest ones with room.
  std::vector<Draft*> order;
  for (Draft& draft : drafts) order.push_back(&draft);
  std::stable_sort(order.begin(), order.end(), [](Draft* a, Draft* b) {
    if (a->changed != b->changed) return a->changed;
    return a->endpoints().size() > b->endpoints().size();
  });
  auto next = wanted.begin();
  for (Draft* draft : order) {
    while (next != wanted.end() && draft->endpoints().size() < kEndpointsPerSlice) {
      draft->endpoints().push_back(next->second);
      draft->changed = true;
      ++next;
    }
  }
  while (next != wanted.end()) {
    Draft draft{{}, new_slice(service, group.family, group.ports), true};
    for (; next != wanted.end() && draft.endpoints().size() < kEndpointsPerSlice; ++next) {
      draft.endpoints().push_back(next->second);
    }
    drafts.push_back(std::move(draft));
  }
}

class EndpointSliceReconciler final : public Reconciler {
 public:
  std::string name() const override { return "endpointslice"; }

  std::vector<Source> sources() const override {
    Source slices{endpoint_slices(), false,
                  [](const View&, const Object& old, const Object& now, const KeySink& wake) {
                    for (const Object* slice : {&old, &now}) {
                      if (!*slice || !slice->labels().contains(kServiceName)) continue;
                      wake(ObjectKey{slice->ns(), slice->labels().at(kServiceName)}.text());
                    }
                  }};
    return {watch_self(services()), watch_pods_of_services(), std::move(slices), {nodes(), true}};
  }

  Actions decide(const std::string& key, const View& view, Now) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const Object service = view.get(services(), id.ns, id.name);
    if (!service || service.deleting() || !has_selector(service)) return actions;

    std::map<std::string, Group> groups;
    std::size_t members = 0;
    for (const std::string& family : families_of(service)) {
      for (const Member& member : members_of(service, family, view)) {
        const json::value ports = member.ports;
        Group& group = groups[group_key(family, &ports)];
        group.family = family;
        group.ports = member.ports;
        group.wanted[member.pod.uid()] = endpoint_of(service, member, view);
        ++members;
      }
    }
    std::map<std::string, std::vector<Draft>> drafts = present_slices(service, view);
    if (groups.empty()) add_placeholder(service, groups, drafts);
    for (auto& [group_name, group] : groups) {
      auto wanted = group.wanted;
      for (Draft& draft : drafts[group_name]) keep_present(draft, wanted);
      place_new(service, group, wanted, drafts[group_name]);
    }
    write(service, groups, drafts, actions);
    actions.reason = std::to_string(members) + " endpoints";
    return actions;
  }

 private:
  static std::map<std::string, std::vector<Draft>> present_slices(const Object& service, const View& view) {
    std::map<std::string, std::vector<Draft>> drafts;
    const LabelMatcher ours = [&](const LabelMap& labels) {
      const auto name = labels.find(kServiceName);
      const auto manager = labels.find(kManagedBy);
      return name != labels.end() && name->second == service.name() && manager != labels.end() &&
             manager->second == kManager;
    };
    const std::string name = service.name();
    const LabelViews having{{kServiceName, name}, {kManagedBy, kManager}};
    for (const Object& slice : view.select(endpoint_slices(), service.ns(), ours, having)) {
      if (slice.deleting()) continue;
      const json::value& root = tree(slice);
      const std::string group = group_key(string_at(root, "/addressType"), find(root, "/ports"));
      drafts[group].push_back({slice, root, false});
    }
    return drafts;
  }

  // A service without endpoints has one empty slice, so that it can be seen that somebody looked. One that
  // is there keeps its ports: no write when the last pod goes and comes back.
  static void add_placeholder(const Object& service, std::map<std::string, Group>& groups,
                              std::map<std::string, std::vector<Draft>>& drafts) {
    const std::string family = families_of(service).front();
    for (auto& [name, list] : drafts) {
      if (list.empty() || string_at(list.front().root, "/addressType") != family) continue;
      const json::array* ports = array_at(list.front().root, "/ports");
      groups[name] = {family, ports != nullptr ? *ports : json::array(), {}};
      return;
    }
    const std::string name = group_key(family, nullptr);
    groups[name] = {family, {}, {}};
    drafts[name].push_back({{}, new_slice(service, family, {}), true});
  }

  static void write(const Object& service, const std::map<std::string, Group>& groups,
                    std::map<std::string, std::vector<Draft>>& drafts, Actions& actions) {
    const json::value labels = labels_of(service);
    for (auto& [name, list] : drafts) {
      const bool wanted = groups.contains(name);
      bool one_stays = false;
      for (Draft& draft : list) {
        const bool placeholder = groups.size() == 1 && !one_stays && draft.endpoints().empty() &&
                                 groups.begin()->second.wanted.empty();
        if (!wanted || (draft.endpoints().empty() && !placeholder)) {
          if (draft.present) actions.remove(endpoint_slices(), draft.present, "it holds no endpoint", true);
          continue;
        }
        one_stays = true;
        if (draft.present && !same_meaning(find(draft.root, "/metadata/labels"), &labels)) {
          set_at(draft.root, "/metadata/labels", labels);
          draft.changed = true;
        }
        if (!draft.changed) continue;
        const std::string reason = std::to_string(draft.endpoints().size()) + " endpoints";
        Object object = object_from_tree(std::move(draft.root));
        if (draft.present) {
          actions.update(endpoint_slices(), std::move(object), reason);
        } else {
          actions.create(endpoint_slices(), std::move(object), reason);
        }
      }
    }
  }
};

}  // namespace

std::shared_ptr<const Reconciler> make_endpoint_slice_reconciler() {
  return std::make_shared<EndpointSliceReconciler>();
}

}  // namespace orchestra::controllers
