// place_gang(): see gang.hpp.
#include "orchestra/gang.hpp"

namespace orchestra {

Gang place_gang(SchedulingSnapshot& snapshot, const std::vector<PodShape>& pods, std::size_t already,
                std::size_t minimum, const PlaceOptions& options) {
  Gang gang;
  std::string first_refusal;
  for (const PodShape& pod : pods) {
    Decision decision = place(snapshot, pod, options);
    if (Placement* at = std::get_if<Placement>(&decision.answer)) {
      snapshot.assume(pod, at->node);
      gang.placements.emplace_back(pod.uid, std::move(*at));
      continue;
    }
    gang.left.push_back(pod.uid);
    if (!first_refusal.empty()) continue;
    const PlacementFailed* failed = decision.failed();
    first_refusal = failed == nullptr ? decision.unschedulable()->message()
                                      : "plugin " + failed->plugin + ": " + failed->message;
  }
  gang.placed = already + gang.placements.size() >= minimum;
  if (gang.placed) return gang;
  gang.message = "only " + std::to_string(already + gang.placements.size()) + " of the " +
                 std::to_string(minimum) + " pods that the group needs would have a node; " + first_refusal;
  for (const auto& [uid, at] : gang.placements) snapshot.forget(uid);
  for (const auto& [uid, at] : gang.placements) gang.left.push_back(uid);
  gang.placements.clear();
  return gang;
}

}  // namespace orchestra
