#include "net/dns/zone_set.hpp"

namespace orchestra::dns {

Answer ZoneSet::answer_once(const Question& question, std::uint32_t rotation) const {
  const AnyZone* zone = nullptr;
  if (!zones_.empty()) {
    for (std::string_view above = question.name;;) {
      if (cluster_ && above == cluster_->name()) break;
      if (const auto found = zones_.find(above); found != zones_.end()) {
        zone = found->second.get();
        break;
      }
      if (above.size() <= 1) break;
      above.remove_prefix(static_cast<unsigned char>(above[0]) + 1u);
    }
  }
  // The cluster's reverse names are deeper than a zone that holds all of in-addr.arpa, or the root.
  const bool reverse =
      zone != nullptr && is_reverse_name(question.name) && !is_reverse_name(zone->wire_name());
  if (cluster_ && (zone == nullptr || reverse)) {
    Answer out = cluster_->answer(question, rotation);
    if (out.passes_on && zone == nullptr) zone = above_cluster(question.name);
    const bool goes_on = !out.ours || out.passes_on;
    if (!goes_on || zone == nullptr) return out;
  }
  if (zone != nullptr) return zone->answer(question, rotation);
  return {.ours = false};
}

/// The longest zone of another kind that the name is below, where the cluster's own comes first.
const AnyZone* ZoneSet::above_cluster(const Name& name) const {
  if (zones_.empty() || is_reverse_name(name)) return nullptr;
  for (std::string_view above = cluster_->name(); above.size() > 1;) {
    above.remove_prefix(static_cast<unsigned char>(above[0]) + 1u);
    if (const auto found = zones_.find(above); found != zones_.end()) return found->second.get();
  }
  return nullptr;
}

Answer ZoneSet::answer(const Question& question, std::uint32_t rotation) const {
  Answer out = answer_once(question, rotation);
  Question next = question;
  for (int depth = 0; out.ours && out.chase; ++depth) {
    if (depth >= kChaseDepthMax) return {.rcode = Rcode::server_failure};
    next.name = *out.chase;
    Answer more = answer_once(next, rotation);
    if (!more.ours) break;
    out.answers.insert(out.answers.end(), more.answers.begin(), more.answers.end());
    out.additional.insert(out.additional.end(), more.additional.begin(), more.additional.end());
    out.authority = std::move(more.authority);
    out.rcode = more.rcode;
    out.chase = std::move(more.chase);
    out.keep &= more.keep;
    if (more.passes_on) {  // perhaps an upstream server has the target
      out.passes_on = true;
      out.chase = next.name;
      return out;
    }
    if (more.extended) out.extended = std::move(more.extended);
    if (out.rcode == Rcode::server_failure) out.answers.clear(), out.additional.clear();
  }
  return out;
}

std::optional<Name> before_search(const Name& name, std::string_view ns, const Name& zone) {
  Name suffix(1, static_cast<char>(ns.size()));
  suffix += ns;
  suffix += "\3svc" + zone;
  if (ns.empty() || ns.size() > 63 || name.size() <= suffix.size() || !is_below_or_equal(name, suffix))
    return std::nullopt;
  return name.substr(0, name.size() - suffix.size()) + std::string(1, '\0');
}

}  // namespace orchestra::dns
