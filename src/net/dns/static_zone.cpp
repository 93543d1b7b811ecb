#include "net/dns/static_zone.hpp"

#include <algorithm>

namespace orchestra::dns {
namespace {

std::size_t label_bytes(std::string_view name) { return static_cast<unsigned char>(name[0]) + 1u; }

Error invalid(const Name& zone, const std::string& text) {
  return {Error::invalid, "dns", "zone " + to_text(zone) + ": " + text};
}

}  // namespace

Result<StaticZone> StaticZone::build(Name name, const std::vector<Record>& records) {
  StaticZone zone;
  zone.name_ = std::move(name);
  for (const Record& record : records) {
    if (!is_below_or_equal(record.name, zone.name_)) {
      return invalid(zone.name_, to_text(record.name) + " is outside of it");
    }
    for (std::string_view above = record.name; above.size() > zone.name_.size();) {
      above.remove_prefix(label_bytes(above));
      zone.nodes_.try_emplace(Name(above));
    }
    Set& set = zone.nodes_[record.name][record.type];
    const bool twice =
        std::any_of(set.begin(), set.end(), [&](const Record& one) { return one.data == record.data; });
    if (twice) continue;
    set.push_back(record);
    set.back().ttl = set.front().ttl;  // RFC 2181 section 5.2
    ++zone.record_count_;
  }
  const auto apex = zone.nodes_.find(zone.name_);
  if (apex == zone.nodes_.end() || apex->second.count(Type::soa) == 0)
    return invalid(zone.name_, "there is no SOA record for this name");
  for (const auto& [owner, node] : zone.nodes_) {
    const auto soa = node.find(Type::soa);
    if (soa != node.end() && (owner != zone.name_ || soa->second.size() > 1))
      return invalid(zone.name_, "a second SOA record, of " + to_text(owner));
    const auto alias = node.find(Type::cname);
    if (alias != node.end() && (node.size() > 1 || alias->second.size() > 1))
      return invalid(zone.name_, to_text(owner) + " has a CNAME record, and so may have nothing else");
    const auto dname = node.find(Type::dname);
    if (dname != node.end() && dname->second.size() > 1)
      return invalid(zone.name_, to_text(owner) + " has two DNAME records");
  }
  return zone;
}

const StaticZone::Node* StaticZone::node_at(const Name& name) const {
  const auto found = nodes_.find(name);
  return found == nodes_.end() ? nullptr : &found->second;
}

/// From the apex down to the name, label by label.
StaticZone::Found StaticZone::find(const Name& name, Type type) const {
  std::vector<std::size_t> starts;  // of the suffixes, the longest first
  for (std::size_t at = 0; name.size() - at > name_.size();) {
    starts.push_back(at);
    at += label_bytes(std::string_view(name).substr(at));
  }
  Found out;
  out.node = node_at(name_);
  Name above = name_;
  for (std::size_t i = starts.size(); i-- > 0;) {
    Name here = name.substr(starts[i]);
    if (out.node->count(Type::dname) != 0) {
      out.dname = &out.node->at(Type::dname);
      return out;
    }
    out.node = node_at(here);
    if (out.node == nullptr) {
      out.node = node_at(std::string("\1*", 2) + above);
      return out;
    }
    // The parent side answers for DS at the delegation itself.
    if (out.node->count(Type::ns) != 0 && !(i == 0 && type == Type::ds)) {
      out.referral = out.node;
      out.referral_name = std::move(here);
      return out;
    }
    above = std::move(here);
  }
  return out;
}

Answer StaticZone::answer(const Question& question, std::uint32_t rotation) const {
  Answer out;
  const Name& name = question.name;
  const Type type = question.type;
  const Found found = find(name, type);
  if (found.dname != nullptr) {
    substitute(found.dname->front(), question, out);
  } else if (found.referral != nullptr) {
    refer(found, out);
  } else if (found.node == nullptr) {
    out.rcode = Rcode::name_error;
    out.authority = {negative_soa()};
  } else if (type == Type::any && !found.node->empty()) {
    // RFC 8482: one small record, of no use to amplify.
    out.answers.push_back({name, Type::hinfo, negative_soa().ttl, txt_data("RFC8482") + txt_data("")});
  } else if (const auto alias = found.node->find(Type::cname);
             alias != found.node->end() && type != Type::cname) {
    add_with_owner(alias->second, name, 0, out.answers);
    out.chase = alias->second.front().data;
  } else if (const auto set = found.node->find(type); set != found.node->end()) {
    add_with_owner(set->second, name, rotation, out.answers);
    add_targets(set->second, out.additional);
  } else {
    out.authority = {negative_soa()};
  }
  return out;
}

/// A wildcard's records are those of the asked name.
void StaticZone::add_with_owner(const Set& set, const Name& owner, std::uint32_t rotation,
                                std::vector<Record>& to) const {
  for (std::size_t i = 0; i < set.size(); ++i) {
    to.push_back(set[(i + rotation) % set.size()]);
    to.back().name = owner;
  }
}

/// The addresses, as far as we have them, of the names that records of these types lead to.
void StaticZone::add_targets(const Set& set, std::vector<Record>& to) const {
  for (const Record& record : set) {
    const std::size_t skip = record.type == Type::ns    ? 0
                             : record.type == Type::mx  ? 2
                             : record.type == Type::srv ? 6
                                                        : std::string::npos;
    if (skip == std::string::npos) return;
    const Node* target = node_at(record.data.substr(skip));
    if (target == nullptr) continue;
    for (const Type type : {Type::a, Type::aaaa}) {
      const auto found = target->find(type);
      if (found == target->end()) continue;
      for (const Record& address : found->second) {
        if (std::find(to.begin(), to.end(), address) == to.end()) to.push_back(address);
      }
    }
  }
}

/// Without DS records, which only mean something to who validates: nothing here is signed.
void StaticZone::refer(const Found& found, Answer& out) const {
  out.referral = true;
  out.authority = found.referral->at(Type::ns);
  add_targets(found.referral->at(Type::ns), out.additional);
}

/// RFC 6672 section 3.2: what is below the DNAME's owner goes below its target.
void StaticZone::substitute(const Record& rule, const Question& question, Answer& out) const {
  const Name& name = question.name;
  out.answers.push_back(rule);
  Name target = name.substr(0, name.size() - rule.name.size()) + rule.data;
  if (target.size() > kNameBytesMax) {
    out.rcode = Rcode::name_too_long;
    return;
  }
  out.answers.push_back({name, Type::cname, rule.ttl, target});
  if (question.type != Type::cname) out.chase = std::move(target);
}

Record StaticZone::negative_soa() const {
  Record soa = nodes_.at(name_).at(Type::soa).front();
  soa.ttl = std::min(soa.ttl, soa_minimum(soa.data).value_or(soa.ttl));
  return soa;
}

}  // namespace orchestra::dns
