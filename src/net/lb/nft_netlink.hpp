#pragma once
// NftElements: map elements added and removed by binary netlink, and cheap looks at the ruleset.
//
// libnftables' text path reads the kernel's whole set list for every command and takes half a second for
// 40,000 elements; the same elements as one netlink batch take a few hundredths. One batch is one
// transaction: the packets see all of it or nothing. Keys of concatenations are their fields, each padded
// to four bytes (the kernel's registers).
#include <optional>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "net/lb/rule_plan.hpp"
#include "orchestra/pod_network.hpp"

namespace orchestra::net {

class NftElements {
 public:
  static Result<NftElements> open(const NetworkNamespace& name_space);

  /// Empties `flush` first, then removes, then adds; all or nothing.
  Result<void> apply(const NftTable& table, const std::vector<std::string>& flush,
                     const std::vector<RuleElement>& removed, const std::vector<RuleElement>& added);

  /// Grows with every transaction of anybody in this namespace.
  Result<std::uint32_t> generation();
  struct TableState {
    std::uint64_t handle = 0;
    std::size_t rules = 0;
    friend bool operator==(const TableState&, const TableState&) = default;
  };
  /// nullopt: there is no such table.
  Result<std::optional<TableState>> table_state(const NftTable& table);

 private:
  explicit NftElements(Fd fd) : fd_(std::move(fd)) {}
  Result<void> send(const std::string& bytes);
  Result<void> read_answers(std::uint32_t first, std::uint32_t last);
  Fd fd_;
  std::uint32_t sequence_ = 1;
};

/// The batch as bytes, for tests of its shape.
std::string encode_element_batch(const NftTable& table, const std::vector<std::string>& flush,
                                 const std::vector<RuleElement>& removed,
                                 const std::vector<RuleElement>& added, std::uint32_t& sequence);

}  // namespace orchestra::net
