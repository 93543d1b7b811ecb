// Dispatch and commit of the generic engine: see core.hpp.
#include "apiserver/core.hpp"

#include <algorithm>
#include <set>

#include "api/object_tree.hpp"
#include "api/status.hpp"
#include "api/versions.hpp"
#include "apiserver/admission.hpp"
#include "apiserver/auth/access.hpp"
#include "apiserver/auth/tokens.hpp"
#include "apiserver/encode.hpp"
#include "apiserver/list_query.hpp"
#include "apiserver/webhook/webhook.hpp"
#include "apiserver/writes.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::int64_t kLeaseWindowSeconds = 300;  // objects written within share one lease of the store
constexpr std::size_t kBatchBytesMax = 8 << 20;    // of the values in one transaction

// "KEY=REVISION": the election's key must still have been created by this holder.
Result<void> check_fence(const std::string& fence, const View& view, Change& change) {
  if (fence.empty()) return {};
  const std::size_t equals = fence.rfind('=');
  auto revision = equals == std::string::npos ? Result<Revision>(api::bad_request("fence"))
                                              : parse_resource_version(fence.substr(equals + 1));
  if (!revision) return api::bad_request("fence \"" + fence + "\" is not of the form KEY=REVISION");
  Compare compare;
  compare.range = Key(fence.substr(0, equals));
  compare.target = Compare::Target::create;
  compare.op = Compare::Op::equal;
  compare.number = *revision;
  ORC_ASSIGN(std::optional<KeyValue> held, view.get(compare.range.begin));
  if (!held || held->create_revision != *revision) {
    return api::status_error(api::make_status(
        409, "Conflict",
        "this client no longer leads: the election's key " + compare.range.begin + " has changed hands"));
  }
  change.compares.push_back(std::move(compare));
  return {};
}

/// One header each, none twice. Where they are too long together each is cut.
void add_warnings(std::initializer_list<const std::vector<std::string>*> lists, Reply& reply) {
  constexpr std::size_t kTotalMax = 4096, kCutMax = 256;
  std::vector<std::string_view> texts;
  std::size_t total = 0;
  for (const auto* list : lists) {
    for (const std::string& text : *list) {
      if (std::find(texts.begin(), texts.end(), text) != texts.end()) continue;
      texts.emplace_back(text);
      total += text.size();
    }
  }
  std::size_t written = 0;
  for (const std::string_view text : texts) {
    if (written >= kTotalMax) return;
    std::size_t size = total > kTotalMax ? std::min(text.size(), kCutMax) : text.size();
    while (size < text.size() && (static_cast<unsigned char>(text[size]) & 0xC0U) == 0x80U) --size;
    reply.headers.push_back(warning_header(text.substr(0, size)));
    written += size;
  }
}

Reply change_reply(ApiCore& core, const WriteInput& input, const Change& change) {
  Reply reply;
  if (!change.status.empty()) {
    reply.code = change.code;
    reply.body = change.status;
  } else if (!change.answer_subresource.empty()) {
    const SubresourceHook* hook = subresource_hook(*input.type, change.answer_subresource);
    auto view = decode_stored_frame(change.stored.bytes());
    if (!view) return error_reply(view.error());
    auto tree = parse_json(json_with_revision(*view, change.revision));
    if (!tree) return error_reply(tree.error());
    auto shown = hook->read(*input.type, *tree);
    if (!shown) return error_reply(shown.error());
    reply = tree_reply(core, *input.call, *shown, change.code);
  } else {
    reply = object_reply(core, *input.type, *input.call, change.stored, change.revision, change.code,
                         change.written ? &*change.written : nullptr);
  }
  add_warnings({&input.warnings, &change.warnings}, reply);
  return reply;
}
}  // namespace

/// One write, or several that share a transaction, until it is committed or refused.
struct ApiCore::WriteTask {
  struct Part {
    Call call;
    WriteInput input;
    Reply reply;
    Change change;
    bool decided = false;  ///< reply holds the answer
  };
  std::vector<std::unique_ptr<Part>> parts;
  std::function<void(std::vector<Reply>)> answer;
  int attempts = 0;
  std::int64_t deadline_ns = 0;  ///< one that keeps losing races is repeated until then, as upstream
  bool linearizable = false;
  std::int64_t ttl_seconds = 0;  ///< of the part that expires, if any
  LeaseId lease = 0;
  /// Several parts that could not commit together go one by one.
  bool alone = true;

  void add(std::unique_ptr<Part> part) {
    if (!part->decided && part->input.type != nullptr)
      ttl_seconds = std::max(ttl_seconds, part->input.type->ttl_seconds);
    parts.push_back(std::move(part));
  }
  /// The same answer for all that have none yet.
  void fail(const Error& error) {
    const Reply reply = error_reply(error);
    for (auto& part : parts) {
      if (!part->decided) part->reply = reply;
    }
    finish();
  }
  void finish() {
    std::vector<Reply> replies;
    replies.reserve(parts.size());
    for (auto& part : parts) replies.push_back(std::move(part->reply));
    answer(std::move(replies));
  }
};

ApiCore::ApiCore(Engine& engine, std::shared_ptr<StateStore> store, CoreOptions options)
    : engine_(engine),
      store_(std::move(store)),
      options_(std::move(options)),
      registry_(api::TypeRegistry::builtin()),
      access_(std::make_shared<Access>(engine_, store_)),
      webhooks_(std::make_shared<WebhookCatalog>(engine_, store_)),
      webhook_caller_(std::make_shared<WebhookCaller>(engine_)),
      wakes_(std::make_shared<WakeList>(engine_)) {}

void ApiCore::run(bool waits, std::function<void()> work, const std::function<void(const Error&)>& refused) {
  if (!waits) return work();
  if (auto queued = engine_.post_blocking(std::move(work)); !queued)
    refused(api::too_many_requests("too many requests wait for webhooks: " + queued.error().to_string()));
}

std::int64_t ApiCore::deadline_of(const Call& call) const {
  if (call.deadline_ns != 0) return call.deadline_ns;
  return engine_.clock().now().steady_ns + options_.request_deadline.count();
}

bool ApiCore::may_wait(const WriteTask& task) const {
  return std::any_of(task.parts.begin(), task.parts.end(), [&](const auto& part) {
    const api::TypePtr& type = part->input.type;
    if (part->decided || type == nullptr) return false;
    return type->converter != nullptr || (!part->call.user.own && webhooks_->wants(*type));
  });
}

std::shared_ptr<const TokenAuthority> ApiCore::tokens() const {
  std::lock_guard lock(mutex_);
  return tokens_;
}
void ApiCore::set_tokens(std::shared_ptr<const TokenAuthority> tokens) {
  std::lock_guard lock(mutex_);
  tokens_ = std::move(tokens);
}

std::shared_ptr<const api::TypeRegistry> ApiCore::registry() const {
  std::lock_guard lock(mutex_);
  return registry_;
}
void ApiCore::set_registry(std::shared_ptr<const api::TypeRegistry> registry) {
  std::lock_guard lock(mutex_);
  registry_ = std::move(registry);
}
Result<Object> ApiCore::object_in_version(const api::TypeRecord& type, std::string_view version,
                                          const Value& stored, Revision revision) {
  const api::TypeVersion* found = type.version(version);
  if (found == nullptr || api::stored_as(type, *found)) return cache_.get(stored, revision);
  ORC_ASSIGN(const StoredView view, decode_stored_frame(stored.bytes()));
  ORC_ASSIGN(const std::string text, json_in_version(type, version, view, revision, false));
  return Object::from_json(text);
}
void ApiCore::set_pod_streams(std::shared_ptr<PodStreams> streams) {
  std::lock_guard lock(mutex_);
  pod_streams_ = std::move(streams);
}
std::shared_ptr<PodStreams> ApiCore::pod_streams() const {
  std::lock_guard lock(mutex_);
  return pod_streams_;
}

Result<api::TypePtr> ApiCore::resolve(const RequestInfo& info) const {
  api::TypePtr type = registry()->find(info.group, info.version, info.resource);
  if (type == nullptr) return api::unknown_path();
  if (!info.ns.empty() && !type->namespaced) return api::unknown_path();
  if (info.subresource.empty()) {
    if (!type->allows(info.verb)) return api::method_not_allowed(*type, info.verb);
    const bool on_collection = info.verb == "create" || info.verb == "list" || info.verb == "watch" ||
                               info.verb == "deletecollection";
    if (on_collection != info.name.empty()) return api::method_not_allowed(*type, info.verb);
    if (type->namespaced && info.ns.empty() && info.verb != "list" && info.verb != "watch") {
      return info.verb == "create" || info.verb == "deletecollection"
                 ? api::method_not_allowed(*type, info.verb)
                 : api::unknown_path();
    }
    return type;
  }
  const api::Subresource* sub = type->subresource(info.subresource);
  if (sub == nullptr) return api::unknown_path();
  if (std::find(sub->verbs.begin(), sub->verbs.end(), info.verb) == sub->verbs.end()) {
    return api::method_not_allowed(*type, info.verb);
  }
  return type;
}

void ApiCore::handle(Call call, Answer answer) {
  if (auto allowed = authorize(*this, call.user, call.info, call.notes.get()); !allowed)
    return answer(error_reply(allowed.error()));
  auto type = resolve(call.info);
  if (!type) return answer(error_reply(type.error()));
  if ((*type)->computed) return computed_read(call, **type, answer);
  if (call.info.verb == "get") return get(std::move(call), std::move(*type), std::move(answer));
  if (call.info.verb == "list") return list(std::move(call), std::move(*type), std::move(answer));
  if (call.info.verb == "deletecollection") {
    return remove_collection(std::move(call), std::move(*type), std::move(answer));
  }
  write(std::move(call), std::move(*type), std::move(answer));
}

void ApiCore::write(Call call, api::TypePtr type, Answer answer) {
  auto task = std::make_shared<WriteTask>();
  auto part = std::make_unique<WriteTask::Part>();
  part->call = std::move(call);
  if (auto read = read_write(*this, part->call, std::move(type), part->input); !read)
    return answer(error_reply(read.error()));
  task->deadline_ns = deadline_of(part->call);
  task->add(std::move(part));
  task->answer = [answer = std::move(answer)](std::vector<Reply> replies) {
    answer(std::move(replies.front()));
  };
  attempt(std::move(task));
}

void ApiCore::batch(std::vector<Call> calls, std::function<void(std::vector<Reply>)> answer) {
  auto task = std::make_shared<WriteTask>();
  for (Call& call : calls) {
    auto part = std::make_unique<WriteTask::Part>();
    part->call = std::move(call);
    auto allowed = authorize(*this, part->call.user, part->call.info, part->call.notes.get());
    auto type = allowed ? resolve(part->call.info) : Result<api::TypePtr>(allowed.error());
    static const std::set<std::string> kWrites = {"create", "update", "patch", "delete"};
    if (type && !kWrites.contains(part->call.info.verb)) type = api::bad_request("a batch holds writes only");
    auto read = type ? read_write(*this, part->call, *type, part->input) : Result<void>(type.error());
    if (!read) {
      part->reply = error_reply(read.error());
      part->decided = true;
    }
    task->deadline_ns = std::max(task->deadline_ns, deadline_of(part->call));
    task->add(std::move(part));
  }
  task->alone = false;
  task->answer = std::move(answer);
  if (task->parts.empty()) return task->finish();
  attempt(std::move(task));
}

bool ApiCore::has_lease(std::int64_t ttl_seconds, LeaseId& lease) const {
  std::lock_guard lock(mutex_);
  const auto found = leases_.find(ttl_seconds);
  if (found == leases_.end() || found->second.until_ns < engine_.clock().now().steady_ns) return false;
  lease = found->second.id;
  return true;
}

void ApiCore::attempt(std::shared_ptr<WriteTask> task) {
  auto self = shared_from_this();
  if (task->ttl_seconds > 0 && !has_lease(task->ttl_seconds, task->lease)) {
    const std::int64_t ttl = task->ttl_seconds;
    store_->lease_grant(std::chrono::seconds(ttl + kLeaseWindowSeconds))
        .on_ready([self, task, ttl](Result<LeaseId> lease) {
          if (!lease) return task->fail(store_error(lease.error()));
          {
            std::lock_guard lock(self->mutex_);
            self->leases_[ttl] = {
                *lease, self->engine_.clock().now().steady_ns + kLeaseWindowSeconds * 1'000'000'000};
          }
          self->engine_.post([self, task] { self->attempt(task); });
        });
    return;
  }
  store_->snapshot(0, task->linearizable ? Consistency::linearizable : Consistency::serializable)
      .on_ready([self, task](Result<Snapshot> snapshot) {
        if (!self->may_wait(*task)) return self->computed(task, std::move(snapshot));
        self->run(
            true, [self, task, snapshot] { self->computed(task, snapshot); },
            [task](const Error& error) { task->fail(error); });
      });
}

void ApiCore::computed(const std::shared_ptr<WriteTask>& task, Result<Snapshot> snapshot) {
  if (!snapshot) return task->fail(store_error(snapshot.error()));
  const View view(std::move(*snapshot));
  ++task->attempts;
  Txn txn;
  std::set<std::string> written;
  std::set<std::string> expected;
  std::vector<WriteTask::Part*> joined;  // parts of this transaction
  bool refused_on_stale = false;
  bool later = false;  // some part has to wait for the next round
  std::size_t bytes = 0;
  const std::size_t ops_max = store_->capabilities().txn_ops_max;
  for (auto& part : task->parts) {
    if (part->decided) continue;
    if (task->alone && !joined.empty()) {
      later = true;
      break;
    }
    if (part->call.notes != nullptr && task->attempts > 1) part->call.notes->admission.clear();
    auto change = compute_write(part->input, view);
    if (change) {
      if (auto fenced = check_fence(part->call.fence, view, *change); !fenced) change = fenced.error();
    }
    if (!change) {
      const bool tell = task->linearizable || change.error().detail<Status>() == nullptr;
      refused_on_stale = refused_on_stale || !tell;
      part->reply = error_reply(tell ? store_error(change.error()) : change.error());
      part->decided = tell;
      continue;
    }
    part->change = std::move(*change);
    if (part->change.ops.empty() || part->change.dry_run) {
      if (part->change.dry_run && part->change.code == 201) part->change.revision = 0;
      part->reply = change_reply(*this, part->input, part->change);
      part->decided = true;
      continue;
    }
    for (const TxnOp& op : part->change.ops) bytes += op.value.size();
    bool clash = bytes > kBatchBytesMax || txn.then.size() + txn.compares.size() + part->change.ops.size() +
                                                   part->change.compares.size() >
                                               ops_max;
    for (const TxnOp& op : part->change.ops) clash = clash || written.contains(op.range.begin);
    if (clash && !joined.empty()) {
      later = true;
      continue;
    }
    for (Compare& compare : part->change.compares) {
      if (expected.insert(compare.range.begin).second) txn.compares.push_back(compare);
    }
    for (TxnOp& op : part->change.ops) {
      written.insert(op.range.begin);
      if (part->input.type->ttl_seconds > 0) op.lease = task->lease;
      txn.then.push_back(op);
    }
    joined.push_back(part.get());
  }
  auto self = shared_from_this();
  if (joined.empty()) {
    if (refused_on_stale) {
      // A refusal must rest on the newest state, not on what this peer happens to have.
      task->linearizable = true;
      return attempt(task);
    }
    return task->finish();
  }
  store_->txn(std::move(txn))
      .on_ready([self, task, joined, later, refused_on_stale](Result<TxnResult> result) {
        if (!result) {
          const Reply reply = error_reply(store_error(result.error()));
          for (auto& part : task->parts) {
            if (!part->decided) part->reply = reply;
          }
          return task->finish();
        }
        if (result->succeeded) {
          for (WriteTask::Part* part : joined) {
            part->change.revision = result->revision;
            part->reply = change_reply(*self, part->input, part->change);
            part->decided = true;
          }
          if (!later && !refused_on_stale) return task->finish();
        } else {
          task->alone = true;
          if (self->engine_.clock().now().steady_ns >= task->deadline_ns)
            return task->fail(api::timed_out(kTimedOut));
        }
        task->linearizable = true;
        // Not on the store's thread: computing takes longer than the store should wait.
        self->engine_.post([self, task] { self->attempt(task); });
      });
}

void ApiCore::remove_collection(Call call, api::TypePtr type, Answer answer) {
  auto query = parse_list_query(*type, call.info.query);
  if (!query) return answer(error_reply(query.error()));
  auto options = read_delete(call);
  if (!options) return answer(error_reply(options.error()));
  auto self = shared_from_this();
  const bool waits = query->fields_late;
  auto remove = [self, call = std::move(call), type, query = std::move(*query),
                 answer](Result<Snapshot> snapshot) {
    if (!snapshot) return answer(error_reply(store_error(snapshot.error())));
    const View view(std::move(*snapshot));
    auto items = view.range(range_of(*type, call.info.ns, query));
    if (!items) return answer(error_reply(store_error(items.error())));
    const std::size_t prefix = objects_range(place_of(*type), "").begin.size();
    std::vector<Call> calls;
    for (const KeyValue& kv : *items) {
      auto stored = decode_stored(kv.value.bytes());
      if (!stored) continue;
      const std::string_view tail = std::string_view(kv.key).substr(prefix);
      if (!matches(query, *stored, tail)) continue;
      if (query.fields_late) {
        auto object = self->object_in_version(*type, call.info.version, kv.value, kv.mod_revision);
        if (!object) return answer(error_reply(store_error(object.error())));
        if (!matches_converted(query, *type, tree(*object))) continue;
      }
      Call one = call;
      one.info.verb = "delete";
      const std::size_t slash = tail.find('/');
      one.info.ns = type->namespaced ? std::string(tail.substr(0, slash)) : std::string();
      one.info.name = std::string(tail.substr(slash + 1));
      one.want = {};
      one.want_object = false;
      calls.push_back(std::move(one));
    }
    const std::string opening =
        list_opening(*type, type->gvk(call.info.version).api_version(), {},
                     "{\"resourceVersion\":\"" + std::to_string(view.revision()) + "\"}");
    self->batch(std::move(calls), [answer, opening](std::vector<Reply> replies) {
      for (Reply& reply : replies) {
        // Gone meanwhile is what was asked for.
        if (reply.code >= 400 && reply.code != 404) return answer(std::move(reply));
      }
      Reply reply;
      reply.body = opening + "]}\n";
      answer(std::move(reply));
    });
  };
  store_->snapshot(0).on_ready([self, waits, answer, remove = std::move(remove)](Result<Snapshot> snapshot) {
    self->run(
        waits, [remove, snapshot] { remove(snapshot); },
        [answer](const Error& error) { answer(error_reply(error)); });
  });
}

std::pair<std::string, std::string> warning_header(std::string_view text) {
  std::string value = "299 - \"";
  for (const char c : text) {
    if (c == '"' || c == '\\') value += '\\';
    value += c;
  }
  return {"Warning", value + "\""};
}

}  // namespace orchestra::apiserver
