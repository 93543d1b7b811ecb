// VolumePlan: see volumes.hpp.
#include "sched/volumes.hpp"

#include <algorithm>
#include <set>

namespace orchestra::sched {

namespace {

constexpr const char* kNodeConflict = "node(s) didn't match PersistentVolume's node affinity";
constexpr const char* kBindConflict = "node(s) didn't find available persistent volumes to bind";
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
    unbound_.push_back(&claim);
  }
  std::sort(unbound_.begin(), unbound_.end(), [](const ClaimShape* a, const ClaimShape* b) {
    return a->bytes != b->bytes ? a->bytes < b->bytes : a->name < b->name;
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

void VolumePlan::bind(Slot slot, VolumeAnswer& answer) const {
  const NodeShape& node = impl_.nodes[slot].shape;
  const bool conflict = std::any_of(bound_.begin(), bound_.end(), [&](const VolumeShape* volume) {
    return volume->required_terms && !any_matches(*volume->required_terms, node);
  });
  bool unsatisfied = false;
  std::set<std::string> taken;
  for (const ClaimShape* claim : unbound_) {
    const std::string key = claim->ns + "/" + claim->name;
    const VolumeShape* best = nullptr;
    const auto names = impl_.volumes_by_class.find(claim->storage_class);
    if (names != impl_.volumes_by_class.end()) {
      for (const std::string& name : names->second) {
        const VolumeShape& volume = impl_.volumes.at(name);
        const bool promised =
            volume.claim == key && (volume.claim_uid.empty() || volume.claim_uid == claim->uid);
        if ((!volume.claim.empty() && !promised) || (!volume.available && !promised) ||
            taken.contains(name) || !suits(volume, *claim) ||
            (volume.required_terms && !any_matches(*volume.required_terms, node))) {
          continue;
        }
        if (promised) {
          best = &volume;
          break;
        }
        if (best == nullptr || volume.bytes < best->bytes) best = &volume;
      }
    }
    if (best != nullptr) {
      taken.insert(best->name);
      answer.choices.push_back({claim->name, best->name});
      continue;
    }
    const auto storage_class = impl_.storage_classes.find(claim->storage_class);
    const bool makes =
        storage_class != impl_.storage_classes.end() && storage_class->second.provisioner != kNoProvisioner &&
        !storage_class->second.provisioner.empty() &&
        (storage_class->second.topologies.empty() || any_matches(storage_class->second.topologies, node));
    if (!makes) {
      unsatisfied = true;
      break;
    }
    answer.choices.push_back({claim->name, {}});
  }
  if (conflict) answer.reasons.emplace_back(kNodeConflict);
  if (unsatisfied) answer.reasons.emplace_back(kBindConflict);
  if (missing_volume_) answer.reasons.emplace_back(kNoSuchVolume);
}

bool VolumePlan::in_zone(Slot slot) const {
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

VolumeAnswer VolumePlan::check(Slot slot, const std::vector<const PlacedPod*>& removed) const {
  VolumeAnswer answer;
  const auto enabled = [&](const char* plugin) { return !profile_.disabled_filters.contains(plugin); };
  if (enabled("VolumeRestrictions") && !exclusive_.empty() && exclusive_claim_taken(removed)) {
    answer.code = Code::rwop;
  } else if (enabled("NodeVolumeLimits") && above_limit(slot, removed)) {
    answer.code = Code::volume_limits;
  } else {
    if (enabled("VolumeBinding")) bind(slot, answer);
    if (!answer.reasons.empty()) {
      answer.code = Code::volumes;
    } else if (enabled("VolumeZone") && !in_zone(slot)) {
      answer.code = Code::zone;
    }
  }
  if (answer.code != Code::ok) answer.choices.clear();
  return answer;
}

}  // namespace orchestra::sched
