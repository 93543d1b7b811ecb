#pragma once
// Parts of a Job's decision: index lists, failure and success policies, pods by state.
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "controllers/common/objects.hpp"
#include "controllers/common/pods.hpp"

namespace orchestra::controllers {

inline constexpr const char* kTracking = "batch.kubernetes.io/job-tracking";
inline constexpr const char* kIndexAnnotation = "batch.kubernetes.io/job-completion-index";
inline constexpr const char* kIndexFailures = "batch.kubernetes.io/job-index-failure-count";
inline constexpr const char* kIndexIgnoredFailures = "batch.kubernetes.io/job-index-ignored-failure-count";

using IndexSet = std::set<std::int64_t>;
/// "0,2-5" and back. Reading bounds every index below `completions`; what is not a list reads as empty.
IndexSet parse_indexes(std::string_view text, std::int64_t completions);
std::string format_indexes(const IndexSet& indexes);

bool has_tracking(const Object& pod);
Object without_tracking(const Object& pod);
/// The completion index of a pod in [0, completions); nullopt if it has none.
std::optional<std::int64_t> index_of(const Object& pod, std::int64_t completions);
/// When a terminal pod ended: its last container, else its Ready condition, deletion or creation.
std::int64_t finished_ns(const Object& pod);
/// 10 s doubling to 10 min; 0 for no failures.
Duration job_pause(std::int64_t failures);

enum class PolicyAction : std::uint8_t { none, fail_job, fail_index, ignore, count };
struct PolicyMatch {
  PolicyAction action = PolicyAction::none;
  std::string message;  ///< of fail_job, as upstream words it
};
/// spec.podFailurePolicy for a pod that failed; the first matching rule wins.
PolicyMatch match_failure_policy(const json::value& job, const Object& pod);
/// spec.successPolicy; the message names the rule.
std::optional<std::string> match_success_policy(const json::value& job, const IndexSet& succeeded,
                                                std::int64_t completions);

/// Complete or Failed is True.
bool job_finished(const Object& job);
const json::object* true_condition(const json::value& root, std::string_view type);

}  // namespace orchestra::controllers
