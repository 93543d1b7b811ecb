#pragma once
// Claims of a pod as folders of this machine: the volume that a claim is bound to, the group that owns it,
// and the folders of released volumes.
#include <string>

#include "node/context.hpp"

namespace orchestra::node {

/// The claim that a volume of a pod names (persistentVolumeClaim, or the one made for an ephemeral volume);
/// empty: it is none.
std::string claim_of(const json::value& pod, const json::value& volume);
/// The folder behind a claim, made if its volume says so. `unavailable` while the claim is not bound yet,
/// `unsupported` names a kind of volume that this agent cannot mount.
Result<std::string> claim_folder(AgentContext& context, const Object& pod, const std::string& claim);
/// fsGroup: everything below belongs to the group, readable and writable for it, folders pass it on. With
/// `only_mismatch` (fsGroupChangePolicy OnRootMismatch) a folder that is right already is left alone.
Result<void> give_to_group(const std::string& folder, std::uint32_t group, bool only_mismatch);
/// A volume of the local provisioner that was released and whose folder lies on this node: its folder goes,
/// then the object.
bool reclaims_here(const Object& volume, const std::string& node);
Result<void> reclaim(AgentContext& context, const Object& volume);

}  // namespace orchestra::node
