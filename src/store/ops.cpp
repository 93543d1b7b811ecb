// The store's operations over JSON (ops.hpp).
#include "store/ops.hpp"

#include <charconv>

#include "base/base64.hpp"
#include "orchestra/raft_store.hpp"
#include "orchestra/retry_after.hpp"
#include "store/txn_text.hpp"

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
json::object to_json_object(const Txn& txn, const TxnResult& result) {
  const auto& ran = result.succeeded ? txn.then : txn.otherwise;
  json::array ops;
  for (std::size_t i = 0; i < ran.size() && i < result.ops.size(); ++i) {
    const TxnResult::OpResult& did = result.ops[i];
    json::object each;
    switch (ran[i].type) {
      case TxnOp::Type::put:
        each["op"] = "put";
        break;
      case TxnOp::Type::remove:
        each["op"] = "del";
        each["removed"] = did.removed;
        break;
      case TxnOp::Type::range: {
        each["op"] = "get";
        json::array kvs;
        for (const KeyValue& kv : did.range.items) kvs.push_back(to_json_object(kv));
        each["kvs"] = std::move(kvs);
        break;
      }
      case TxnOp::Type::txn:
        if (did.nested.size() == 1) each = to_json_object(ran[i].nested.front(), did.nested.front());
        each["op"] = "txn";
        break;
    }
    ops.push_back(std::move(each));
  }
  return {{"succeeded", result.succeeded}, {"ops", std::move(ops)}};
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

/// The text of txn_text.hpp; the answer says whether the conditions held, and what each operation did.
Result<void> run_txn(StateStore& store, const json::object& request, const OpContext& context) {
  ORC_ASSIGN(const std::string text, bytes_at(request, "text"));
  ORC_ASSIGN(json::object line, run_txn_text(store, text, kDeadline));
  context.emit(std::move(line));
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

/// The words of the command line after the action.
Result<std::string> word_at(const json::object& request, std::size_t index, const char* what) {
  const json::value* words = request.if_contains("words");
  if (words == nullptr || !words->is_array() || words->get_array().size() <= index ||
      !words->get_array()[index].is_string()) {
    return Error(Error::invalid, "store", std::string(what) + " is missing");
  }
  return std::string(words->get_array()[index].get_string());
}
Result<std::uint64_t> id_at(const json::object& request, std::size_t index) {
  ORC_ASSIGN(const std::string text, word_at(request, index, "an ID"));
  std::uint64_t id = 0;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), id);
  if (end.ec != std::errc() || end.ptr != text.data() + text.size() || id == 0)
    return Error(Error::invalid, "store", "\"" + text + "\" is not an id");
  return id;
}

/// A new member takes the place of one whose disk or machine is gone. Each step looks at what is there, so
/// the same command again goes on where it was interrupted.
Result<void> replace_member(StoreMembers& members, const json::object& request, const OpContext& context) {
  ORC_ASSIGN(const std::uint64_t old, id_at(request, 0));
  ORC_ASSIGN(const std::string name, word_at(request, 1, "NAME"));
  ORC_ASSIGN(const std::string address, word_at(request, 2, "ADDR"));
  const auto look = [&]() -> Result<std::pair<std::optional<StoreMember>, bool>> {
    ORC_ASSIGN(const auto all, members.members().wait(kDeadline));
    std::pair<std::optional<StoreMember>, bool> found;
    for (const StoreMember& member : all) {
      if (member.name == name) found.first = member;
      found.second |= member.id == old;
    }
    return found;
  };
  ORC_ASSIGN(auto now, look());
  if (now.first && now.first->id == old)
    return Error(Error::invalid, "store",
                 "member \"" + name + "\" is the one to be replaced; give the new one another name");
  if (!now.first && !now.second)
    return Error(Error::not_found, "store", "there is no member " + std::to_string(old));
  if (!now.first) {
    ORC_TRY(members.add_member(name, address, true, false).wait(kDeadline));
    ORC_ASSIGN(now, look());
  }
  if (!now.first)
    return Error(Error::unavailable, "store", "the new member is not known here yet; try again");
  const std::uint64_t fresh = now.first->id;
  context.emit({{"id", std::to_string(fresh)}, {"step", "added; start it with --join, it is waited for"}});
  while (now.first && now.first->role == "learner") {
    const auto promoted = members.promote_member(fresh).wait(kDeadline);
    if (!promoted && !promoted.error().is(Error::unavailable) && !promoted.error().is(Error::busy) &&
        !promoted.error().is(Error::conflict))
      return promoted.error();
    if (context.cancelled() ||
        !context.emit({{"id", std::to_string(fresh)}, {"step", "waits until it has caught up"}}))
      return Error(Error::cancelled, "store",
                   "stopped before the new member votes; the same command goes on");
    const Promise<> nobody;
    (void)nobody.pending().wait(kLookAround);
    ORC_ASSIGN(now, look());
  }
  if (now.second) {
    // The list may be a little old: it may be gone already.
    const auto removed = members.remove_member(old, false).wait(kDeadline);
    if (!removed && !removed.error().is(Error::not_found)) return removed.error();
  }
  context.emit({{"id", std::to_string(fresh)}, {"step", "votes; the old member is removed"}});
  return {};
}

Result<void> run_members(StateStore& store, const json::object& request, const OpContext& context) {
  auto* members = dynamic_cast<StoreMembers*>(&store);
  if (members == nullptr) return Error(Error::unsupported, "store", "this store has no peers");
  const std::string action = string_at(request, "/action");
  if (action == "list") {
    ORC_ASSIGN(const auto all, members->members().wait(kDeadline));
    for (const StoreMember& member : all) {
      const bool more = context.emit({{"id", std::to_string(member.id)},
                                      {"name", member.name},
                                      {"address", member.address},
                                      {"role", member.role},
                                      {"lag", member.lag},
                                      {"reachable", member.reachable},
                                      {"trouble", member.trouble}});
      if (!more) break;
    }
    return {};
  }
  if (action == "add") {
    ORC_ASSIGN(std::string name, word_at(request, 0, "NAME"));
    ORC_ASSIGN(std::string address, word_at(request, 1, "ADDR"));
    ORC_ASSIGN(const std::uint64_t id, members
                                           ->add_member(std::move(name), std::move(address),
                                                        flag(request, "learner"), flag(request, "force"))
                                           .wait(kDeadline));
    context.emit({{"id", std::to_string(id)}});
    return {};
  }
  if (action == "replace") return replace_member(*members, request, context);
  ORC_ASSIGN(const std::uint64_t id, id_at(request, 0));
  if (action == "promote") return members->promote_member(id).wait(kDeadline);
  if (action == "remove") return members->remove_member(id, flag(request, "force")).wait(kDeadline);
  if (action == "transfer") return members->transfer_leadership(id).wait(kDeadline);
  if (action != "update")
    return Error(Error::invalid, "store",
                 "there is no `members " + action + "`; see `orchestra store --help`");
  ORC_ASSIGN(std::string address, word_at(request, 1, "ADDR"));
  return members->update_member(id, std::move(address)).wait(kDeadline);
}

json::object to_json_object(const LeaseInfo& info) {
  json::array keys;
  for (const std::string& key : info.keys) keys.emplace_back(key);
  return {{"id", std::to_string(info.id)},
          {"ttl_s", info.ttl.count()},
          {"remaining_s", info.remaining.count()},
          {"keys", std::move(keys)}};
}

Result<void> run_lease(StateStore& store, const json::object& request, const OpContext& context) {
  const std::string action = string_at(request, "/action");
  if (action == "grant") {
    const auto ttl = number(request, "ttl_s");
    if (!ttl) return Error(Error::invalid, "store", "TTL is missing");
    ORC_ASSIGN(const LeaseId id, store.lease_grant(std::chrono::seconds(*ttl)).wait(kDeadline));
    context.emit({{"id", std::to_string(id)}});
    return {};
  }
  if (action == "list") {
    ORC_ASSIGN(const auto all, store.lease_list().wait(kDeadline));
    for (const LeaseInfo& info : all) {
      if (!context.emit(to_json_object(info))) break;
    }
    return {};
  }
  ORC_ASSIGN(const std::uint64_t number_of, id_at(request, 0));
  const auto id = static_cast<LeaseId>(number_of);
  if (action == "keep-alive") return store.lease_keep_alive(id).wait(kDeadline);
  if (action == "revoke") return store.lease_revoke(id).wait(kDeadline);
  if (action != "ttl")
    return Error(Error::invalid, "store", "there is no `lease " + action + "`; see `orchestra store --help`");
  ORC_ASSIGN(const LeaseInfo info, store.lease_time_to_live(id, true).wait(kDeadline));
  context.emit(to_json_object(info));
  return {};
}

}  // namespace

Result<void> run_store_op(StateStore& store, const json::object& request, const OpContext& context) {
  const std::string op = string_at(request, "/op");
  if (op == "store.get") return run_get(store, request, context);
  if (op == "store.put") return run_put(store, request, context);
  if (op == "store.del") return run_del(store, request, context);
  if (op == "store.txn") return run_txn(store, request, context);
  if (op == "store.watch") return run_watch(store, request, context);
  if (op == "store.status") return run_status(store, context);
  if (op == "store.snapshot") return run_snapshot(store, context);
  if (op == "store.members") return run_members(store, request, context);
  if (op == "store.lease") return run_lease(store, request, context);
  if (op != "store.compact")
    return Error(Error::unsupported, "store", "there is no operation \"" + op + "\"");
  const auto revision = number(request, "revision");
  if (!revision) return Error(Error::invalid, "store", "store.compact needs a \"revision\"");
  return store.compact(*revision).wait(kDeadline);
}

Result<json::object> run_txn_text(StateStore& store, std::string_view text, Duration deadline) {
  ORC_ASSIGN(Txn txn, parse_txn(text));
  const Txn asked = txn;
  ORC_ASSIGN(const TxnResult result, store.txn(std::move(txn)).wait(deadline));
  json::object line = to_json_object(asked, result);
  line["revision"] = result.revision;
  return line;
}

json::object error_detail(const Error& error) {
  if (const auto* kv = error.detail<KeyValue>()) return {{"current", to_json_object(*kv)}};
  if (const auto* revisions = error.detail<RevisionDetail>()) {
    return {{"compacted", revisions->compacted}, {"revision", revisions->current}};
  }
  if (const auto* retry = error.detail<RetryAfter>())
    return {{"retry_after_ms", retry->after.count() / 1'000'000}};
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
  for (const char* op :
       {"get", "put", "del", "txn", "watch", "status", "compact", "snapshot", "members", "lease"}) {
    server.handle(std::string("store.") + op, handler);
  }
}

}  // namespace orchestra
