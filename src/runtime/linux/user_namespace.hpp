#pragma once
// Level rootless: which ids we may use, whether it works here, and trees of containers made removable.
#include <string>

#include "base/fd.hpp"
#include "runtime/plan/id_maps.hpp"

namespace orchestra::runtime {

struct RootlessIds {
  IdMaps maps;
  std::string single_because;  ///< why only one id is mapped; empty when there are ranges
};
/// From /etc/subuid, /etc/subgid and the programs of Debian's uidmap, for the effective user.
RootlessIds find_rootless_ids(bool keep_id = false);
wire::UserNamespace to_wire(const IdMaps& maps);

/// Really makes a user namespace with these maps and in it what a container needs. `fallback_directory` as
/// in SpawnPlan. The error names what was refused; why_no_user_namespaces() adds the cause.
Result<void> try_rootless(const IdMaps& maps, const std::string& fallback_directory);
/// A sentence about what forbids user namespaces here, with the remedy; empty if nothing is known.
struct UserNamespaceCause {
  std::string cause, remedy;
};
UserNamespaceCause why_no_user_namespaces();

/// Containers with ranges leave folders of ids that are not ours: gives all folders below `path` to us.
/// A missing folder is fine.
Result<void> reclaim_tree(const IdMaps& maps, const std::string& path, const std::string& fallback_directory);

}  // namespace orchestra::runtime
