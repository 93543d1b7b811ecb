// Watches over the store: see watch_cursor.hpp.
#include "apiserver/watch_cursor.hpp"

#include "api/object_tree.hpp"
#include "api/status.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::size_t kInitialPage = 200;  // objects of the snapshot handed out at a time
constexpr Bytes kBatchBytes{8u << 20};
}  // namespace

Result<WatchRequest> read_watch(const ApiCore&, const Call& call, api::TypePtr type) {
  WatchRequest request;
  ORC_ASSIGN(request.query, parse_list_query(*type, call.info.query));
  request.type = std::move(type);
  request.version = call.info.version;
  request.ns = call.info.ns;
  request.bookmarks = query_flag(call.info.query, "allowWatchBookmarks");
  const auto initial = call.info.query.find("sendInitialEvents");
  const std::string& version = request.query.resource_version;
  if (initial == call.info.query.end()) {
    if (!request.query.version_match.empty()) {
      return api::status_error(
          api::make_status(422, "Invalid",
                           "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: "
                           "resourceVersionMatch is forbidden "
                           "for watch unless sendInitialEvents is provided"));
    }
    request.send_initial = version.empty() || version == "0";
    return request;
  }
  if (request.query.version_match != "NotOlderThan") {
    return api::status_error(
        api::make_status(422, "Invalid",
                         "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: "
                         "sendInitialEvents requires setting "
                         "resourceVersionMatch to NotOlderThan"));
  }
  request.send_initial = query_flag(call.info.query, "sendInitialEvents");
  request.initial_end = request.send_initial && request.bookmarks;
  return request;
}

WatchCursor::WatchCursor(ApiCore& core, WatchRequest request, Snapshot snapshot, Watch watch)
    : core_(core.shared_from_this()),
      request_(std::move(request)),
      snapshot_(std::move(snapshot)),
      watch_(std::move(watch)) {
  prefix_ = objects_range(place_of(*request_.type), "").begin.size();
  initial_ = range_of(*request_.type, request_.ns, request_.query);
  ++core_->watchers;
}
WatchCursor::~WatchCursor() {
  watch_.cancel();
  --core_->watchers;
}

Result<std::unique_ptr<WatchCursor>> WatchCursor::open(ApiCore& core, WatchRequest request) {
  if (core.watchers >= core.options().watchers_max) {
    return api::too_many_requests("too many watches: at most " + std::to_string(core.options().watchers_max) +
                                  " are open at a time");
  }
  WatchOptions options;
  options.range = range_of(*request.type, request.ns, request.query);
  options.credit = kBatchBytes;
  Revision after = 0;
  if (!request.send_initial) {
    const std::string& version = request.query.resource_version;
    if (version.empty() || version == "0") {
      after = core.store().revision();
    } else {
      ORC_ASSIGN(after, parse_resource_version(version));
    }
  }
  // Local state is what a watch shows; it is always at least as new as what this client was told here.
  auto pending = core.store().snapshot(0, Consistency::serializable);
  if (!pending.is_ready() && detail::on_event_thread()) {
    return api::service_unavailable("the store has no local state to watch yet");
  }
  auto snapshot = pending.wait(std::chrono::seconds(10));
  if (!snapshot) return store_error(snapshot.error());
  if (request.send_initial) after = snapshot->revision();
  if (!request.send_initial && after <= core.store().compacted_revision() &&
      after != core.store().revision()) {
    return api::expired("too old resource version: " + std::to_string(after) + " (" +
                        std::to_string(core.store().compacted_revision() + 1) + ")");
  }
  options.after = after;
  auto watch = core.store().watch(std::move(options));
  if (!watch) {
    if (watch.error().is(Error::compacted)) {
      return api::expired("too old resource version: " + std::to_string(after));
    }
    return store_error(watch.error());
  }
  const bool initial = request.send_initial;
  std::unique_ptr<WatchCursor> cursor(
      new WatchCursor(core, std::move(request), std::move(*snapshot), std::move(*watch)));
  cursor->seen_ = after;
  if (!initial) cursor->snapshot_.reset();
  return cursor;
}

// Where fields are those of a converted object, this asks the converter, and blocks.
Result<bool> WatchCursor::shows(std::string_view tail, const Value& value, Revision revision) const {
  ORC_ASSIGN(const StoredView view, decode_stored(value.bytes()));
  if (!matches(request_.query, view, tail)) return false;
  if (!request_.query.fields_late) return true;
  ORC_ASSIGN(const Object object,
             core_->object_in_version(*request_.type, request_.version, value, revision));
  return matches_converted(request_.query, *request_.type, tree(object));
}

Result<void> WatchCursor::read_initial(std::vector<WatchItem>& items) {
  RangeOptions options;
  options.limit = kInitialPage;
  ORC_ASSIGN(RangeResult page, snapshot_->try_range(initial_, options));
  for (KeyValue& kv : page.items) {
    ORC_ASSIGN(const bool shown, shows(std::string_view(kv.key).substr(prefix_), kv.value, kv.mod_revision));
    if (shown) items.push_back({WatchItem::Type::added, kv.value, kv.mod_revision});
  }
  if (page.more && !page.items.empty() && !initial_.single) {
    initial_.begin = page.items.back().key + '\0';
    return {};
  }
  if (request_.initial_end) items.push_back({WatchItem::Type::bookmark, {}, snapshot_->revision(), true});
  snapshot_.reset();
  return {};
}

Result<std::optional<WatchItem>> WatchCursor::translate_event(const WatchEvent& event) const {
  const std::string_view tail = std::string_view(event.kv.key).substr(prefix_);
  bool before = false;
  if (event.previous) {
    ORC_ASSIGN(before, request_.query.selective()
                           ? shows(tail, event.previous->value, event.previous->mod_revision)
                           : Result<bool>(true));
  }
  const Revision revision = event.kv.mod_revision;
  if (event.type == WatchEvent::Type::remove) {
    if (!before) return std::optional<WatchItem>();
    return std::optional<WatchItem>({WatchItem::Type::deleted, event.previous->value, revision});
  }
  ORC_ASSIGN(const bool after, request_.query.selective() ? shows(tail, event.kv.value, event.kv.mod_revision)
                                                          : Result<bool>(true));
  if (after) {
    return std::optional<WatchItem>(
        {before ? WatchItem::Type::modified : WatchItem::Type::added, event.kv.value, revision});
  }
  if (!before) return std::optional<WatchItem>();
  return std::optional<WatchItem>({WatchItem::Type::deleted, event.previous->value, revision});
}

Result<void> WatchCursor::translate(const WatchBatch& batch, std::vector<WatchItem>& items) const {
  for (const WatchEvent& event : batch.events) {
    ORC_ASSIGN(std::optional<WatchItem> item, translate_event(event));
    if (item) items.push_back(std::move(*item));
  }
  return {};
}

Result<std::vector<WatchItem>> WatchCursor::poll() {
  std::vector<WatchItem> items;
  if (snapshot_) {
    ORC_TRY(read_initial(items));
    return items;
  }
  while (items.empty()) {
    const Revision before = core_->store().revision();
    auto batch = watch_.poll();
    if (!batch) {
      if (watch_.error()) {
        if (watch_.error()->is(Error::compacted)) return api::expired();
        return store_error(*watch_.error());
      }
      // The ring was empty behind us: nothing up to `before` was missed.
      seen_ = std::max(seen_, before);
      break;
    }
    ORC_TRY(translate(*batch, items));
    seen_ = std::max(seen_, batch->revision);
  }
  return items;
}

bool WatchCursor::at_end() {
  const Revision newest = core_->store().revision();
  return !snapshot_ && watch_.progress() >= newest;
}

void WatchCursor::notify(std::function<void()> ready) {
  if (snapshot_) return ready();
  watch_.notify(std::move(ready));
}

std::optional<std::vector<WatchItem>> WatchCursor::next(Duration deadline, std::optional<Error>& error) {
  const std::int64_t end = core_->engine().clock().now().steady_ns + deadline.count();
  for (bool tried = false;; tried = true) {
    std::vector<WatchItem> items;
    if (snapshot_) {
      if (auto read = read_initial(items); !read) {
        error = read.error();
        return std::nullopt;
      }
    } else {
      const std::int64_t left = end - core_->engine().clock().now().steady_ns;
      if (left < 0 && tried) return std::nullopt;
      auto batch = watch_.next(Duration(std::max<std::int64_t>(0, left)));
      if (!batch) {
        if (watch_.error())
          error = watch_.error()->is(Error::compacted) ? api::expired() : store_error(*watch_.error());
        return std::nullopt;
      }
      if (auto read = translate(*batch, items); !read) {
        error = read.error();
        return std::nullopt;
      }
      seen_ = std::max(seen_, batch->revision);
    }
    if (!items.empty()) return items;
  }
}

void WatchCursor::cancel() { watch_.cancel(); }

}  // namespace orchestra::apiserver
