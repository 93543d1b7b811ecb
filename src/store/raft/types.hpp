#pragma once
// The words of Raft (Ongaro, "Consensus: Bridging Theory and Practice", 2014): terms, indexes, entries,
// messages. Indexes start at 1; Index{0} and Term{0} mean "none".
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/units.hpp"

namespace orchestra::store {

using Term = Id<struct TermTag>;
using Index = Id<struct IndexTag>;
using PeerId = Id<struct PeerTag>;

enum class EntryType : std::uint8_t { empty = 0, command = 1, configuration = 2 };

struct Entry {
  Term term;
  Index index;
  EntryType type = EntryType::empty;
  std::shared_ptr<const std::string> data;  ///< may be null: no bytes
  std::string_view bytes() const { return data ? std::string_view(*data) : std::string_view(); }
};

/// What must be on disk before anything that depends on it leaves. `commit` is advisory.
struct HardState {
  Term term;
  PeerId vote;
  Index commit;
  friend bool operator==(const HardState&, const HardState&) = default;
};

enum class MessageType : std::uint8_t {
  pre_vote,
  pre_vote_answer,
  vote,
  vote_answer,
  append,
  append_answer,
  heartbeat,
  heartbeat_answer,
  timeout_now,
};

/// One message between peers; which fields count depends on the type.
struct Message {
  MessageType type{};
  PeerId from, to;
  Term term;
  Term log_term;  ///< append: of the entry before; votes: of the candidate's last entry
  Index index;    ///< append: of the entry before; votes: candidate's last; answers: match or hint
  Index commit;   ///< append, heartbeat
  std::vector<Entry> entries;  ///< append
  bool reject = false;
  Term hint_term;             ///< rejected append: term at the hint index
  std::uint64_t context = 0;  ///< heartbeat: the read round it confirms
};

}  // namespace orchestra::store
