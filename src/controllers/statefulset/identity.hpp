#pragma once
// The identity of one pod of a StatefulSet: ordinal, name, labels, claims
// (kubernetes/pkg/controller/statefulset/stateful_set_utils.go).
#include <optional>
#include <string>
#include <vector>

#include "controllers/common/objects.hpp"
#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {

inline constexpr const char* kRevisionLabel = "controller-revision-hash";
inline constexpr const char* kPodNameLabel = "statefulset.kubernetes.io/pod-name";
inline constexpr const char* kPodIndexLabel = "apps.kubernetes.io/pod-index";

/// The ordinal in a pod's name; nullopt: the name is not of this set.
std::optional<std::int64_t> ordinal_of(const std::string& pod, const std::string& set);
/// The pod of an ordinal, from the template of `revision`.
Object stateful_pod(const Object& set, const Object& revision, std::int64_t ordinal);
/// The claims of an ordinal, as they are to be created.
std::vector<Object> claims_of(const Object& set, std::int64_t ordinal);
/// Orders the owner references that the retention policy asks for; `condemned` is the pod if it is to go by
/// scaling. Answers true when something was ordered.
bool keep_claim_owners(const Object& set, std::int64_t ordinal, const Object& pod, bool condemned,
                       const View& view, Actions& actions);

}  // namespace orchestra::controllers
