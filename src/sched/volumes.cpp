// VolumePlan: see volumes.hpp.
#include "sched/volumes.hpp"

#include <algorithm>
#include <map>
#include <set>

namespace orchestra::sched {

namespace {

constexpr const char* kNodeConflict = "node(s) didn't match PersistentVolume's node affinity";
constexpr const char* kBindConflict = "node(s) didn't find available persistent volumes to bind";
constexpr const char* kNoRoom = "node(s) did not have enough free storage";
constexpr const char* kNoSuchVolume =
    "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
constexpr const char* kNoProvisioner = "kubernetes.io/no-provisioner";

// The label, and what it was called before it was stable.
constexpr std::pair<const char*, const char*> kZoneLabels[] = {
    {"failure-domain.beta.kubernetes.io/zone", nullptr},
    {"failure-domain.beta.kubernetes.io/region", nullptr},
    {"topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"},
    {"topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"}};

bool any_matches(const std::vector<NodeTerm>& terms, const NodeShape& node) {
  return std::any_of(terms.begin(), terms.end(),
                     [&](const NodeTerm& term) { return matches(term, node.labels, node.name); });
}

bool has_value(const std::string& joined, const std::string& value) {
  std::size_t begin = 0;
  while (true) {
    const std::size_t end = joined.find("__", begin);
    if (joined.substr(begin, end == std::string::npos ? end : end - begin) == value) return true;
    if (end == std::string::npos) return false;
    begin = end + 2;
  }
}

// What has to agree whatever the node (volume.FindMatchingVolume).
bool suits(const VolumeShape& volume, const ClaimShape& claim) {
  return volume.mode == claim.mode && volume.bytes >= claim.bytes &&
         std::includes(volume.access_modes.begin(), volume.access_modes.end(), claim.access_modes.begin(),
                       claim.access_modes.end()) &&
         (!claim.selector || claim.selector->matches(volume.labels));
}

bool promised(const VolumeShape& volume, const ClaimShape& claim) {
  return volume.claim == claim.ns + "/" + claim.name &&
         (volume.claim_uid.empty() || volume.claim_uid == claim.uid);
}

}  // namespace

VolumePlan::VolumePlan(const SchedulingSnapshot::Impl& impl, const PodShape& pod,
                       const SchedulingProfile& profile)
    : impl_(impl), pod_(pod), profile_(profile), any_(!pod.claims.empty()) {
  for (const std::string& name : pod.claims) {
    const auto found = impl.claims.find(pod.ns + "/" + name);
    const bool late =
        std::find(pod.late_claims.begin(), pod.late_claims.end(), name) != pod.late_claims.end();
    if (found == impl.claims.end()) {
      error_ = late ? "waiting for ephemeral volume controller to create the persistentvolumeclaim \"" +
                          name + "\""
                    : "persistentvolumeclaim \"" + name + "\" not found";
      return;
    }
    const ClaimShape& claim = found->second;
    if (claim.deleting) {
      error_ = "persistentvolumeclaim \"" + name + "\" is being deleted";
      return;
    }
    if (late && claim.owner_uid != pod.uid) {
      error_ = "PVC " + pod.ns + "/" + name + " was not created for pod " + pod.ns + "/" + pod.name +
               " (pod is not owner)";
      return;
    }
    if (std::find(claim.access_modes.begin(), claim.access_modes.end(), "ReadWriteOncePod") !=
        claim.access_modes.end()) {
      exclusive_.push_back(found->first);
    }
    if (auto attachment = attachment_of(claim)) attachments_.push_back(std::move(*attachment));
    if (claim.bound) {
      const auto volume = impl.volumes.find(claim.volume);
      if (volume == impl.volumes.end()) {
        missing_volume_ = true;
      } else {
        bound_.push_back(&volume->second);
      }
      continue;
    }
    const auto storage_class = impl.storage_classes.find(claim.storage_class);
    const bool waits = claim.volume.empty() && storage_class != impl.storage_classes.end() &&
                       storage_class->second.waits_for_pod;
    if (!waits && !profile.disabled_filters.contains("VolumeBinding")) {
      error_ = "pod has unbound immediate PersistentVolumeClaims";
      return;
    }
    Unbound& unbound = unbound_.emplace_back();
    unbound.claim = &claim;
    const std::string& provisioner = storage_class->second.provisioner;
    if (provisioner != kNoProvisioner && !provisioner.empty()) unbound.maker = &storage_class->second;
    if (impl.drivers_that_tell_capacity.contains(provisioner)) {
      unbound.rooms.emplace();
      for (const auto& [key, capacity] : impl.capacities) {
        if (capacity.storage_class == claim.storage_class && capacity.nodes && capacity.bytes >= claim.bytes)
          unbound.rooms->push_back(&capacity);
      }
    }
    const auto names = impl.volumes_by_class.find(claim.storage_class);
    if (names == impl.volumes_by_class.end()) continue;
    for (const std::string& volume_name : names->second) {
      const VolumeShape& volume = impl.volumes.at(volume_name);
      if ((promised(volume, claim) || (volume.claim.empty() && volume.available)) && suits(volume, claim))
        unbound.volumes.push_back(&volume);
    }
  }
  std::sort(unbound_.begin(), unbound_.end(), [](const Unbound& a, const Unbound& b) {
    return a.claim->bytes != b.claim->bytes ? a.claim->bytes < b.claim->bytes : a.claim->name < b.claim->name;
  });
}

std::optional<VolumePlan::Attachment> VolumePlan::attachment_of(const ClaimShape& claim) const {
  const auto volume = impl_.volumes.find(claim.volume);
  if (volume != impl_.volumes.end()) {
    if (volume->second.driver.empty()) return std::nullopt;
    return Attachment{volume->second.driver, volume->second.driver + "/" + volume->second.handle};
  }
  const auto storage_class = impl_.storage_classes.find(claim.storage_class);
  if (storage_class == impl_.storage_classes.end()) return std::nullopt;
  return Attachment{storage_class->second.provisioner,
                    storage_class->second.provisioner + "/" + claim.ns + "/" + claim.name};
}

bool VolumePlan::exclusive_claim_taken(const std::vector<const PlacedPod*>& removed) const {
  return std::any_of(exclusive_.begin(), exclusive_.end(), [&](const std::string& key) {
    const auto users = impl_.claim_users.find(key);
    return users != impl_.claim_users.end() &&
           std::any_of(users->second.begin(), users->second.end(), [&](const PlacedPod* user) {
             return user->uid != pod_.uid && std::find(removed.begin(), removed.end(), user) == removed.end();
           });
  });
}

bool VolumePlan::above_limit(Slot slot, const std::vector<const PlacedPod*>& removed) const {
  const NodeState& node = impl_.nodes[slot];
  if (node.volume_limits.empty() || attachments_.empty()) return false;
  std::map<std::string, std::set<std::string>> there;
  for (const PlacedPod* pod : node.pods) {
    if (std::find(removed.begin(), removed.end(), pod) != removed.end()) continue;
    const PodRules& rules = impl_.records[pod->record].rules;
    for (const std::string& name : rules.claims) {
      const auto claim = impl_.claims.find(rules.ns + "/" + name);
      if (claim == impl_.claims.end()) continue;
      if (auto attachment = attachment_of(claim->second)) there[attachment->driver].insert(attachment->id);
    }
  }
  std::map<std::string, std::set<std::string>> fresh;
  for (const Attachment& each : attachments_) {
    if (!there[each.driver].contains(each.id)) fresh[each.driver].insert(each.id);
  }
  return std::any_of(fresh.begin(), fresh.end(), [&](const auto& entry) {
    const auto limit = node.volume_limits.find(entry.first);
    return limit != node.volume_limits.end() &&
           static_cast<std::int64_t>(there[entry.first].size() + entry.second.size()) > limit->second;
  });
}

VolumePlan::Binding VolumePlan::bind(Slot slot, std::vector<VolumeChoice>* choices) const {
  const NodeShape& node = impl_.nodes[slot].shape;
  Binding binding;
  binding.conflict = std::any_of(bound_.begin(), bound_.end(), [&](const VolumeShape* volume) {
    return volume->required_terms && !any_matches(*volume->required_terms, node);
  });
  std::vector<const VolumeShape*> taken;
  for (const Unbound& each : unbound_) {
    const VolumeShape* best = nullptr;
    for (const VolumeShape* volume : each.volumes) {
      if (std::find(taken.begin(), taken.end(), volume) != taken.end() ||
          (volume->required_terms && !any_matches(*volume->required_terms, node))) {
        continue;
      }
      if (promised(*volume, *each.claim)) {
        best = volume;
        break;
      }
      if (best == nullptr || volume->bytes < best->bytes) best = volume;
    }
    if (best != nullptr) {
      taken.push_back(best);
      if (choices != nullptr) choices->push_back({each.claim->name, best->name});
      continue;
    }
    const bool makes = each.maker != nullptr &&
                       (each.maker->topologies.empty() || any_matches(each.maker->topologies, node));
    if (!makes) {
      binding.unsatisfied = true;
      break;
    }
    const bool room =
        !each.rooms || std::any_of(each.rooms->begin(), each.rooms->end(),
                                   [&](const auto* one) { return one->nodes->matches(node.labels); });
    if (!room) {
      binding.no_room = true;
      break;
    }
    if (choices != nullptr) choices->push_back({each.claim->name, {}});
  }
  return binding;
}

bool VolumePlan::in_zone(Slot slot) const {
  if (bound_.empty()) return true;
  const auto& labels = impl_.nodes[slot].shape.labels;
  const bool zoned = std::any_of(std::begin(kZoneLabels), std::end(kZoneLabels),
                                 [&](const auto& each) { return labels.contains(each.first); });
  // A cluster of one zone need not say so.
  if (!zoned) return true;
  for (const VolumeShape* volume : bound_) {
    for (const auto& [key, older] : kZoneLabels) {
      const auto wanted = volume->labels.find(key);
      if (wanted == volume->labels.end()) continue;
      auto here = labels.find(key);
      if (here == labels.end() && older != nullptr) here = labels.find(older);
      if (here == labels.end() || !has_value(wanted->second, here->second)) return false;
    }
  }
  return true;
}

Code VolumePlan::code(Slot slot, const std::vector<const PlacedPod*>& removed) const {
  // Asked for each node: usually none is switched off, and then no name is looked up.
  const auto& disabled = profile_.disabled_filters;
  const auto enabled = [&](const char* plugin) { return disabled.empty() || !disabled.contains(plugin); };
  if (enabled("VolumeRestrictions") && !exclusive_.empty() && exclusive_claim_taken(removed))
    return Code::rwop;
  if (enabled("NodeVolumeLimits") && above_limit(slot, removed)) return Code::volume_limits;
  if (enabled("VolumeBinding")) {
    const Binding binding = bind(slot, nullptr);
    if (binding.conflict || binding.unsatisfied || binding.no_room || missing_volume_) return Code::volumes;
  }
  return enabled("VolumeZone") && !in_zone(slot) ? Code::zone : Code::ok;
}

VolumeAnswer VolumePlan::check(Slot slot, const std::vector<const PlacedPod*>& removed) const {
  VolumeAnswer answer;
  answer.code = code(slot, removed);
  const bool binds = !profile_.disabled_filters.contains("VolumeBinding");
  if (!binds || (answer.code != Code::ok && answer.code != Code::volumes)) return answer;
  const Binding binding = bind(slot, answer.code == Code::ok ? &answer.choices : nullptr);
  if (binding.conflict) answer.reasons.emplace_back(kNodeConflict);
  if (binding.unsatisfied) answer.reasons.emplace_back(kBindConflict);
  if (binding.no_room) answer.reasons.emplace_back(kNoRoom);
  if (missing_volume_) answer.reasons.emplace_back(kNoSuchVolume);
  return answer;
}

}  // namespace orchestra::sched
