// The choice of a volume for a claim; see match.hpp.
#include "controllers/volumes/match.hpp"

#include <algorithm>

#include "api/placement.hpp"

namespace orchestra::controllers {

namespace {

Quantity quantity_at(const json::value& root, std::string_view pointer) {
  return Quantity::parse(string_at(root, pointer, "0")).value_or(Quantity());
}

bool has_modes(const json::value& volume, const json::value& claim) {
  const json::array* wanted = array_at(claim, "/spec/accessModes");
  const json::array* offered = array_at(volume, "/spec/accessModes");
  if (wanted == nullptr) return true;
  return offered != nullptr && std::all_of(wanted->begin(), wanted->end(), [&](const json::value& mode) {
           return std::find(offered->begin(), offered->end(), mode) != offered->end();
         });
}

}  // namespace

Quantity requested_storage(const json::value& claim) {
  return quantity_at(claim, "/spec/resources/requests/storage");
}
Quantity capacity_of(const json::value& volume) { return quantity_at(volume, "/spec/capacity/storage"); }

bool claimed_by(const json::value& volume, const Object& claim) {
  if (string_at(volume, "/spec/claimRef/name") != claim.name()) return false;
  if (string_at(volume, "/spec/claimRef/namespace") != claim.ns()) return false;
  const std::string uid = string_at(volume, "/spec/claimRef/uid");
  return uid.empty() || uid == claim.uid();
}

bool fits(const Object& claim, const Object& volume) {
  const json::value& want = tree(claim);
  const json::value& have = tree(volume);
  if (volume.deleting()) return false;
  if (string_at(want, "/spec/storageClassName") != string_at(have, "/spec/storageClassName")) return false;
  if (string_at(want, "/spec/volumeMode", "Filesystem") != string_at(have, "/spec/volumeMode", "Filesystem"))
    return false;
  if (!has_modes(have, want) || capacity_of(have) < requested_storage(want)) return false;
  const json::value* selector = find(want, "/spec/selector");
  if (selector == nullptr || selector->is_null()) return true;
  const auto parsed = LabelSelector::parse(selector);
  return parsed && parsed->matches(volume.labels());
}

bool reaches(const Object& volume, const Object& node) {
  const json::array* terms = array_at(tree(volume), "/spec/nodeAffinity/required/nodeSelectorTerms");
  return terms == nullptr || std::any_of(terms->begin(), terms->end(), [&](const json::value& term) {
           return api::matches_node_term(term, node);
         });
}

Object best_volume(const Object& claim, const std::vector<Object>& volumes, const Object& node) {
  Object best;
  for (const Object& volume : volumes) {
    const bool taken = object_at(tree(volume), "/spec/claimRef") != nullptr;
    if (taken && claimed_by(tree(volume), claim) && !volume.deleting()) return volume;
    if (taken || string_at(tree(volume), "/status/phase", "Available") != "Available") continue;
    if (!fits(claim, volume) || (node && !reaches(volume, node))) continue;
    if (!best || capacity_of(tree(volume)) < capacity_of(tree(best))) best = volume;
  }
  return best;
}

}  // namespace orchestra::controllers
