#pragma once
// TableGuard: notices when somebody else changed or removed a table of ours.
//
// The ruleset's generation grows with every transaction of anybody, so looking is cheap while nothing
// happens; only then the table itself is looked at. One user at a time.
#include <optional>
#include <string>

#include "net/lb/nft_netlink.hpp"

namespace orchestra::net {

class TableGuard {
 public:
  TableGuard(NftElements& elements, NftTable table) : elements_(elements), table_(std::move(table)) {}
  /// What is there now is right: after each change of ours.
  void remember() {
    if (auto generation = elements_.generation()) generation_ = *generation;
    if (auto state = elements_.table_state(table_)) state_ = *state;
  }
  /// True once per change of others to our table.
  bool changed_by_others() {
    const auto generation = elements_.generation();
    if (!generation || *generation == generation_) return false;
    generation_ = *generation;
    const auto state = elements_.table_state(table_);
    return state && *state != state_;
  }

 private:
  NftElements& elements_;
  const NftTable table_;
  std::uint32_t generation_ = 0;
  std::optional<NftElements::TableState> state_;
};

}  // namespace orchestra::net
