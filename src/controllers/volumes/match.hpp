#pragma once
// Which volume a claim may have (kubernetes/pkg/controller/volume/persistentvolume/index.go).
#include <string>
#include <vector>

#include "controllers/common/objects.hpp"
#include "orchestra/quantity.hpp"

namespace orchestra::controllers {

inline constexpr const char* kSelectedNode = "volume.kubernetes.io/selected-node";
inline constexpr const char* kBindCompleted = "pv.kubernetes.io/bind-completed";
inline constexpr const char* kBoundByController = "pv.kubernetes.io/bound-by-controller";
inline constexpr const char* kDefaultClass = "storageclass.kubernetes.io/is-default-class";

Quantity requested_storage(const json::value& claim);
Quantity capacity_of(const json::value& volume);
/// The claim of a volume is this one (name, and UID if it names one).
bool claimed_by(const json::value& volume, const Object& claim);
/// Access modes, class, mode, size, selector; not the claimRef.
bool fits(const Object& claim, const Object& volume);
/// spec.nodeAffinity.required accepts the node (or there is none).
bool reaches(const Object& volume, const Object& node);
/// Prebound to the claim, else the smallest free one that fits; empty: none. `node` empty: any node.
Object best_volume(const Object& claim, const std::vector<Object>& volumes, const Object& node);

}  // namespace orchestra::controllers
