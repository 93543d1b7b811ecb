// The sessions of sessions.hpp.
#include "store/mvcc/sessions.hpp"

#include <algorithm>
#include <string>

namespace orchestra::store {

std::uint64_t Sessions::open() {
  if (open_.size() >= kSessionsMax) {
    open_.erase(std::min_element(open_.begin(), open_.end(),
                                 [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
  }
  open_[++opened_].used = ++uses_;
  return opened_;
}

Result<std::optional<Sessions::Reply>> Sessions::find(std::uint64_t session, std::uint64_t sequence) {
  const auto found = open_.find(session);
  if (found == open_.end()) {
    return Error(Error::expired, "store",
                 "session " + std::to_string(session) + " has expired, so nobody knows whether its request " +
                     std::to_string(sequence) +
                     " was done; nothing was applied now: read, then open a new session");
  }
  found->second.used = ++uses_;
  if (sequence <= found->second.floor) {
    return Error(Error::expired, "store",
                 "the answer to request " + std::to_string(sequence) + " of session " +
                     std::to_string(session) + " is no longer kept (the last " + std::to_string(kRepliesMax) +
                     " are); nothing was applied now");
  }
  const auto reply = found->second.replies.find(sequence);
  if (reply == found->second.replies.end()) return std::optional<Reply>();
  return std::optional<Reply>(reply->second);
}

void Sessions::keep(std::uint64_t session, std::uint64_t sequence, Reply reply) {
  Session& known = open_.at(session);
  known.replies.emplace(sequence, reply);
  if (known.replies.size() <= kRepliesMax) return;
  known.floor = known.replies.begin()->first;
  known.replies.erase(known.replies.begin());
}

void Sessions::encode(Writer& out) const {
  out.varint(opened_);
  out.varint(uses_);
  out.varint(open_.size());
  for (const auto& [number, session] : open_) {
    out.varint(number);
    out.varint(session.used);
    out.varint(session.floor);
    out.varint(session.replies.size());
    for (const auto& [sequence, reply] : session.replies) {
      out.varint(sequence);
      out.u8(reply.succeeded ? 1 : 0);
      out.varint(static_cast<std::uint64_t>(reply.revision));
    }
  }
}

Sessions Sessions::decode(Reader& in) {
  Sessions sessions;
  sessions.opened_ = in.varint();
  sessions.uses_ = in.varint();
  const std::size_t count = in.count();
  if (count > kSessionsMax) in.fail();
  for (std::size_t i = 0; i < count && in.ok(); ++i) {
    Session& session = sessions.open_[in.varint()];
    session.used = in.varint();
    session.floor = in.varint();
    const std::size_t replies = in.count();
    if (replies > kRepliesMax) in.fail();
    for (std::size_t k = 0; k < replies && in.ok(); ++k) {
      Reply& reply = session.replies[in.varint()];
      reply.succeeded = in.u8() != 0;
      reply.revision = static_cast<Revision>(in.varint());
    }
  }
  return sessions;
}

}  // namespace orchestra::store
