#pragma once
// A watch on one type: what exists now, then every change, as the selectors see it.
//
// The store's revision ring is the only buffer of events; a cursor is a place in it. An object that
// leaves the selector is a DELETED with its last matching state and the new revision, one that enters is
// an ADDED. Encoding is the reader's business.
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apiserver/core.hpp"
#include "apiserver/list_query.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra::apiserver {

struct WatchItem {
  enum class Type : std::uint8_t { added, modified, deleted, bookmark };
  Type type = Type::added;
  Value stored;              ///< empty for a bookmark
  Revision revision = 0;     ///< the resourceVersion that the client sees
  bool initial_end = false;  ///< bookmark: the list part of a WatchList is complete
};

struct WatchRequest {
  api::TypePtr type;
  std::string version;
  std::string ns;
  ListQuery query;
  bool send_initial = false;  ///< sendInitialEvents=true
  bool initial_end = false;   ///< a bookmark ends the initial events
  bool bookmarks = false;
};
/// Parameters of a watch: 400, 410, 422.
Result<WatchRequest> read_watch(const ApiCore& core, const Call& call, api::TypePtr type);

/// Pulled by one reader; any thread, one call at a time.
class WatchCursor {
 public:
  /// `compacted` becomes 410 Expired.
  static Result<std::unique_ptr<WatchCursor>> open(ApiCore& core, WatchRequest request);
  ~WatchCursor();
  /// What is there now; empty: nothing yet. An error ends the watch.
  Result<std::vector<WatchItem>> poll();
  /// Calls once when poll() has something.
  void notify(std::function<void()> ready);
  std::optional<std::vector<WatchItem>> next(Duration deadline, std::optional<Error>& error);
  /// Everything up to here has been seen.
  Revision seen() const { return seen_; }
  /// Was there nothing left to read a moment ago?
  bool at_end();
  const WatchRequest& request() const { return request_; }
  ApiCore& core() const { return *core_; }
  void cancel();

 private:
  WatchCursor(ApiCore& core, WatchRequest request, Snapshot snapshot, Watch watch);
  Result<bool> shows(std::string_view tail, const Value& value, Revision revision) const;
  Result<void> read_initial(std::vector<WatchItem>& items);
  Result<void> translate(const WatchBatch& batch, std::vector<WatchItem>& items) const;
  Result<std::optional<WatchItem>> translate_event(const WatchEvent& event) const;

  std::shared_ptr<ApiCore> core_;
  WatchRequest request_;
  std::optional<Snapshot> snapshot_;  ///< while initial objects are still to be read
  KeyRange initial_;
  Watch watch_;
  std::size_t prefix_ = 0;
  Revision seen_ = 0;
};

}  // namespace orchestra::apiserver
