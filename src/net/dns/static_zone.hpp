#pragma once
// Answers from a zone's records, as an authoritative server gives them. Pure: question in, records out.
//
// Rules: RFC 1034 section 4.3.2 (the walk from the apex to the name: delegations, then the name, then a
// wildcard), RFC 4592 (wildcards and names that exist only above others), RFC 6672 (DNAME), RFC 2308 (the SOA
// of a "no"), RFC 8482 (ANY). An answer ends at the first alias (CNAME, DNAME); `chase` says where it goes
// on, be it in this zone: a zone of ours that lies inside of this one may hold that name (ZoneSet knows).
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "net/dns/zone.hpp"
#include "orchestra/result.hpp"

namespace orchestra::dns {

class StaticZone {
 public:
  /// `invalid` when the records are no zone of this name: no SOA at its apex, or two; a name outside; a CNAME
  /// beside other data. Duplicates count once, the times of a set are those of its first record.
  static Result<StaticZone> build(Name name, const std::vector<Record>& records);
  Answer answer(const Question& question, std::uint32_t rotation) const;
  const Name& name() const { return name_; }
  std::size_t record_count() const { return record_count_; }

 private:
  using Set = std::vector<Record>;
  using Node = std::map<Type, Set>;  // empty: a name that exists only above others
  struct Found {
    const Node* node = nullptr;      // null: there is no such name
    const Node* referral = nullptr;  // the delegation that the name is below or at
    Name referral_name;
    const Set* dname = nullptr;
  };
  Found find(const Name& name, Type type) const;
  const Node* node_at(const Name& name) const;
  void add_with_owner(const Set& set, const Name& owner, std::uint32_t rotation,
                      std::vector<Record>& to) const;
  void add_targets(const Set& set, std::vector<Record>& to) const;
  void refer(const Found& found, Answer& out) const;
  void substitute(const Record& rule, const Question& question, Answer& out) const;
  Record negative_soa() const;

  Name name_;
  std::unordered_map<Name, Node> nodes_;
  std::size_t record_count_ = 0;
};

}  // namespace orchestra::dns
