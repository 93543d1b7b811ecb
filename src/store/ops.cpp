// The store's operations over JSON (ops.hpp).
#include "store/ops.hpp"

#include "base/base64.hpp"

namespace orchestra::store {
namespace {

constexpr Duration kDeadline = std::chrono::seconds(10);
constexpr Duration kLookAround =
    std::chrono::milliseconds(200);  ///< how soon a watch sees that its reader left
constexpr std::size_t kPage = 500;   ///< rows read at once: bounded memory
constexpr std::size_t kSnapshotLine = 256 << 10;

Result<std::string> bytes_at(const json::object& request, const char* name) {
  const json::value* value = request.if_contains(name);
  if (value == nullptr || !value->is_string()) {
    return Error(Error::invalid, "store", std::string("the request has no \"") + name + "\"");
  }
  auto bytes = decode_base64_text(value->get_string());
  if (!bytes) return Error(Error::invalid, "store", std::string("\"") + name + "\" is not base64");
  return std::move(*bytes);
}
bool flag(const json::object& request, const char* name) {
  const json::value* value = request.if_contains(name);
  return value != nullptr && value->is_bool() && value->get_bool();
}
std::optional<std::int64_t> number(const json::object& request, const char* name) {
  const json::value* value = request.if_contains(name);
  if (value == nullptr || !value->is_number()) return std::nullopt;
  boost::system::error_code bad;
  const auto parsed = value->to_number<std::int64_t>(bad);
  return bad ? std::nullopt : std::optional(parsed);
}

Result<KeyRange> range_of(const json::object& request) {
  ORC_ASSIGN(std::string key, bytes_at(request, "key"));
  if (flag(request, "prefix")) return KeyPrefix(std::move(key));
  if (!request.contains("end")) return Key(std::move(key));
  ORC_ASSIGN(std::string end, bytes_at(request, "end"));
  return KeyRange{std::move(key), std::move(end)};
}

json::object to_json_object(const KeyValue& kv) {
  return {{"key", encode_base64_text(kv.key)},
          {"value", encode_base64_text(kv.value.bytes())},
          {"create_revision", kv.create_revision},
          {"mod_revision", kv.mod_revision},
          {"version", kv.version},
          {"lease", kv.lease}};
}
void add_previous(json::object& line, const std::vector<KeyValue>& previous) {
  json::array all;
  for (const KeyValue& kv : previous) all.push_back(to_json_object(kv));
  line["previous"] = std::move(all);
}

Result<void> run_get(StateStore& store, const json::object& request, const OpContext& context) {
  ORC_ASSIGN(KeyRange range, range_of(request));
  RangeOptions options;
  options.revision = number(request, "revision").value_or(0);
  options.keys_only = flag(request, "keys_only");
  options.count_only = flag(request, "count");
  if (flag(request, "serializable")) options.consistency = Consistency::serializable;
  const std::uint64_t limit =
      static_cast<std::uint64_t>(std::max<std::int64_t>(0, number(request, "limit").value_or(0)));
  std::uint64_t sent = 0;
  std::uint64_t total = 0;
  Revision current = 0;
  while (true) {
    options.limit = limit == 0 ? kPage : std::min<std::uint64_t>(kPage, limit - sent);
    ORC_ASSIGN(const RangeResult page, store.range(range, options).wait(kDeadline));
    if (current == 0) {
      total = page.count;
      current = page.revision;
      if (options.revision == 0) options.revision = current;  // all pages from one state
    }
    for (const KeyValue& kv : page.items) {
      if (!context.emit({{"kv", to_json_object(kv)}})) return {};
    }
    sent += page.items.size();
    if (!page.more || options.count_only || (limit != 0 && sent >= limit)) break;
    range.begin = page.items.back().key + '\0';
    range.single = false;
  }
  context.emit({{"revision", current}, {"count", total}, {"more", sent < total && !options.count_only}});
  return {};
}

Result<void> run_put(StateStore& store, const json::object& request, const OpContext& context) {
  ORC_ASSIGN(std::string key, bytes_at(request, "key"));
  ORC_ASSIGN(const std::string value, bytes_at(request, "value"));
  PutOptions options;
  options.if_mod_revision = number(request, "if_revision");
  options.want_previous = flag(request, "previous");
  if (const auto ttl = number(request, "lease_ttl_s")) {
    ORC_ASSIGN(options.lease, store.lease_grant(std::chrono::seconds(*ttl)).wait(kDeadline));
  }
  const LeaseId lease = options.lease;
  const auto result = store.put(std::move(key), value, options).wait(kDeadline);
  if (!result) {
    if (lease != 0) (void)store.lease_revoke(lease).wait(kDeadline);
    return result.error();
  }
  json::object line{{"revision", result->revision}};
  if (lease != 0) line["lease"] = lease;
  if (options.want_previous) add_previous(line, result->previous);
  context.emit(line);
  return {};
}

Result<void> run_del(StateStore& store, const json::object& request, const OpContext& context) {
  ORC_ASSIGN(KeyRange range, range_of(request));
  RemoveOptions options;
  options.if_mod_revision = number(request, "if_revision");
  options.want_previous = flag(request, "previous");
  ORC_ASSIGN(const WriteResult result, store.remove(std::move(range), options).wait(kDeadline));
  json::object line{{"revision", result.revision}, {"removed", result.removed}};
  if (options.want_previous) add_previous(line, result.previous);
  context.emit(line);
  return {};
}

Result<void> run_watch(StateStore& store, const json::object& request, const OpContext& context) {
  WatchOptions options;
  ORC_ASSIGN(options.range, range_of(request));
  options.after = number(request, "after");
  options.want_previous = flag(request, "previous");
  ORC_ASSIGN(Watch watch, store.watch(std::move(options)));
  while (!context.cancelled()) {
    auto batch = watch.next(kLookAround);
    if (!batch) {
      if (watch.error()) return *watch.error();
      continue;
    }
    json::array events;
    for (const WatchEvent& event : batch->events) {
      json::object each{{"type", event.type == WatchEvent::Type::put ? "put" : "remove"},
                        {"kv", to_json_object(event.kv)}};
      if (event.previous) each["previous"] = to_json_object(*event.previous);
      events.push_back(std::move(each));
    }
    if (!context.emit({{"events", std::move(events)}, {"revision", batch->revision}})) return {};
  }
  return Error(Error::cancelled, "store", "the watch was cancelled");
}

Result<void> run_status(StateStore& store, const OpContext& context) {
  const StoreStatus status = store.status();
  json::array alarms(status.alarms.begin(), status.alarms.end());
  json::array notes(status.notes.begin(), status.notes.end());
  context.emit({{"kind", status.kind},
                {"role", status.role},
                {"cluster_id", status.cluster_id},
                {"term", status.term},
                {"log_index", status.log_index},
                {"applied_index", status.applied_index},
                {"revision", status.revision},
                {"compacted_revision", status.compacted_revision},
                {"keys", status.keys},
                {"state_bytes", status.state_bytes.value},
                {"log_bytes", status.log_bytes.value},
                {"ring_bytes", status.ring_bytes.value},
                {"watchers", status.watchers},
                {"leases", status.leases},
                {"durability", status.durability},
                {"sync_p50_us", status.sync_p50_us},
                {"sync_p99_us", status.sync_p99_us},
                {"alarms", std::move(alarms)},
                {"notes", std::move(notes)}});
  return {};
}

Result<void> run_snapshot(StateStore& store, const OpContext& context) {
  std::string buffer;
  const auto flush = [&]() -> Result<void> {
    if (!context.emit({{"data", encode_base64_text(buffer)}})) {
      return Error(Error::cancelled, "store", "the reader of the snapshot is gone");
    }
    buffer.clear();
    return {};
  };
  auto saved = store.save_snapshot([&](std::string_view bytes) -> Result<void> {
    buffer.append(bytes);
    return buffer.size() < kSnapshotLine ? Result<void>() : flush();
  });
  // The sink uses this frame: wait for its end, however long it takes.
  ORC_ASSIGN(const Revision revision, saved.wait(std::chrono::hours(24)));
  if (!buffer.empty()) ORC_TRY(flush());
  context.emit({{"revision", revision}});
  return {};
}

}  // namespace

Result<void> run_store_op(StateStore& store, const json::object& request, const OpContext& context) {
  const std::string op = string_at(request, "/op");
  if (op == "store.get") return run_get(store, request, context);
  if (op == "store.put") return run_put(store, request, context);
  if (op == "store.del") return run_del(store, request, context);
  if (op == "store.watch") return run_watch(store, request, context);
  if (op == "store.status") return run_status(store, context);
  if (op == "store.snapshot") return run_snapshot(store, context);
  if (op != "store.compact")
    return Error(Error::unsupported, "store", "there is no operation \"" + op + "\"");
  const auto revision = number(request, "revision");
  if (!revision) return Error(Error::invalid, "store", "store.compact needs a \"revision\"");
  return store.compact(*revision).wait(kDeadline);
}

json::object error_detail(const Error& error) {
  if (const auto* kv = error.detail<KeyValue>()) return {{"current", to_json_object(*kv)}};
  if (const auto* revisions = error.detail<RevisionDetail>()) {
    return {{"compacted", revisions->compacted}, {"revision", revisions->current}};
  }
  return {};
}

}  // namespace orchestra::store

namespace orchestra {

void register_store_ops(ControlServer& server, std::shared_ptr<StateStore> store) {
  const auto handler = [store = std::move(store)](const json::object& request, const ControlReply& reply) {
    store::OpContext context;
    context.emit = [&](const json::object& line) { return reply.send(line); };
    context.cancelled = [&] { return reply.closed(); };
    const auto result = store::run_store_op(*store, request, context);
    if (result) return reply.done();
    reply.fail(result.error(), store::error_detail(result.error()));
  };
  for (const char* op : {"get", "put", "del", "watch", "status", "compact", "snapshot"}) {
    server.handle(std::string("store.") + op, handler);
  }
}

}  // namespace orchestra
