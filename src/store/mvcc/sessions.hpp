#pragma once
// Requests that are applied once, however often they come (spec/store.md section 5). Part of the state: pure.
//
// A session is opened by a command and gets a number that is never given again; its requests carry numbers of
// the client's choice. What a request did is kept, so that the same one again gets the same answer and
// changes nothing. Bounds: the session that was not used for the longest goes when there are too many, the
// lowest answers of a session when it has too many; asking for either is `expired`, never a second
// application. Nothing here depends on time.
#include <cstdint>
#include <map>
#include <optional>

#include "orchestra/state_store.hpp"
#include "store/mvcc/wire.hpp"

namespace orchestra::store {

class Sessions {
 public:
  static constexpr std::size_t kSessionsMax = 4096;
  static constexpr std::size_t kRepliesMax = 64;
  struct Reply {
    bool succeeded = false;
    Revision revision = 0;
  };

  std::uint64_t open();
  /// The answer that the request got before; none: it is new. `expired`: nobody can know.
  Result<std::optional<Reply>> find(std::uint64_t session, std::uint64_t sequence);
  /// Of a request for which find() had nothing.
  void keep(std::uint64_t session, std::uint64_t sequence, Reply reply);
  std::size_t size() const { return open_.size(); }
  /// All end; their numbers are not given again.
  void clear() { open_.clear(); }

  void encode(Writer& out) const;
  static Sessions decode(Reader& in);

 private:
  struct Session {
    std::uint64_t used = 0;   ///< value of uses_ at the last use
    std::uint64_t floor = 0;  ///< answers up to here are gone
    std::map<std::uint64_t, Reply> replies;
  };
  std::uint64_t opened_ = 0;
  std::uint64_t uses_ = 0;
  std::map<std::uint64_t, Session> open_;
};

}  // namespace orchestra::store
