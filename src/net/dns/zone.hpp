#pragma once
// What every zone gives back for a question: the cluster's, one from a file, one that the host answers.
#include <optional>
#include <vector>

#include "net/dns/message.hpp"

namespace orchestra::dns {

constexpr int kChaseDepthMax = 8;  ///< CNAME records that an answer follows

struct Answer {
  bool ours = true;  ///< false: not our zone, ask an upstream server
  Rcode rcode = Rcode::no_error;
  std::vector<Record> answers, authority, additional;
  /// The answer ends with a CNAME to this name: append what the zone that holds it says, or an upstream
  /// server.
  std::optional<Name> chase = std::nullopt;
  bool referral = false;   ///< to the servers in `authority`: not an answer of ours
  bool passes_on = false;  ///< "no such name", unless the zone above or an upstream server knows it
  bool keep = true;        ///< the same question has the same answer until something is published
  std::optional<ExtendedError> extended = std::nullopt;
};

}  // namespace orchestra::dns
