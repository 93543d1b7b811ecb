#pragma once
// The volume rules: VolumeRestrictions (ReadWriteOncePod), NodeVolumeLimits, VolumeBinding and VolumeZone
// (kubernetes/pkg/scheduler/framework/plugins/{volumerestrictions,nodevolumelimits,volumebinding,volumezone}).
// Asked only for pods that have claims; what all nodes share is worked out once per pod.
#include <string>
#include <vector>

#include "sched/evaluation.hpp"

namespace orchestra::sched {

struct VolumeAnswer {
  Code code = Code::ok;
  std::vector<std::string> reasons;   ///< of Code::volumes
  std::vector<VolumeChoice> choices;  ///< what binding would need, where all is well
};

class VolumePlan {
 public:
  VolumePlan(const SchedulingSnapshot::Impl& impl, const PodShape& pod, const SchedulingProfile& profile);
  bool any() const { return any_; }
  /// Not empty: no node will do, and this is why.
  const std::string& error() const { return error_; }
  const char* error_plugin() const { return "VolumeBinding"; }
  VolumeAnswer check(Slot slot, const std::vector<const PlacedPod*>& removed = {}) const;
  /// check().code, without the words.
  Code code(Slot slot, const std::vector<const PlacedPod*>& removed = {}) const;

 private:
  struct Attachment {
    std::string driver, id;
  };
  std::optional<Attachment> attachment_of(const ClaimShape& claim) const;
  bool exclusive_claim_taken(const std::vector<const PlacedPod*>& removed) const;
  bool above_limit(Slot slot, const std::vector<const PlacedPod*>& removed) const;
  struct Unbound {
    const ClaimShape* claim = nullptr;
    std::vector<const VolumeShape*> volumes;  // that would do, as far as the node does not matter
    const StorageClassShape* maker = nullptr;
    /// The maker says where it has room: these are large enough. Absent: it does not say.
    std::optional<std::vector<const CapacityShape*>> rooms = {};
  };
  struct Binding {
    bool conflict = false, unsatisfied = false, no_room = false;
  };
  Binding bind(Slot slot, std::vector<VolumeChoice>* choices) const;
  bool in_zone(Slot slot) const;

  const SchedulingSnapshot::Impl& impl_;
  const PodShape& pod_;
  const SchedulingProfile& profile_;
  bool any_ = false;
  std::string error_;
  std::vector<const VolumeShape*> bound_;
  bool missing_volume_ = false;
  std::vector<Unbound> unbound_;        // smallest first
  std::vector<std::string> exclusive_;  // keys of ReadWriteOncePod claims
  std::vector<Attachment> attachments_;
};

}  // namespace orchestra::sched
