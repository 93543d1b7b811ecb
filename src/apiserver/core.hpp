#pragma once
// The generic engine: every resource request of every kind runs through here, from HTTP and in process.
//
// authorize -> decode -> strict check -> merge or patch -> defaults -> admission -> validation -> one
// transaction with preconditions -> encode. What is special about a kind is in its TypeRecord and in the
// hooks of src/kinds; nothing here knows a kind by name. Calls never block: answers come on the
// calling thread or on one of the store's, so they must not block either.
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "api/pod_streams.hpp"
#include "api/types.hpp"
#include "apiserver/call.hpp"
#include "apiserver/event_frames.hpp"
#include "apiserver/object_cache.hpp"
#include "apiserver/view.hpp"
#include "apiserver/wake_list.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra::apiserver {

class Access;
class AuditLog;
class WebhookCaller;
class WebhookCatalog;
struct TokenAuthority;

struct CoreOptions {
  std::string service_cidr = "10.96.0.0/16";
  int node_port_min = 30000, node_port_max = 32767;
  std::size_t object_bytes_max = 1536 << 10;                          ///< fits a store of etcd's limits: 413
  std::size_t reads_in_flight_max = 400, writes_in_flight_max = 200;  ///< over HTTP: 429
  std::size_t watchers_max = 10'000;
  Duration request_deadline = std::chrono::seconds(60);
  std::string continue_secret;
};

class ApiCore : public std::enable_shared_from_this<ApiCore> {
 public:
  ApiCore(Engine& engine, std::shared_ptr<StateStore> store, CoreOptions options);

  /// get list create update patch delete deletecollection of a resource and its simple subresources.
  void handle(Call call, Answer answer);
  /// Writes on independent objects, in one transaction where none of them fails.
  void batch(std::vector<Call> calls, std::function<void(std::vector<Reply>)> answer);

  /// The type that a request names: 404 for an unknown path, 405 for a verb it does not have.
  Result<api::TypePtr> resolve(const RequestInfo& info) const;

  Engine& engine() const { return engine_; }
  StateStore& store() const { return *store_; }
  const std::shared_ptr<StateStore>& shared_store() const { return store_; }
  const CoreOptions& options() const { return options_; }
  void set_continue_secret(std::string secret) { options_.continue_secret = std::move(secret); }
  std::shared_ptr<const api::TypeRegistry> registry() const;
  /// Who knows the objects of a computed kind (metrics); called on the thread of the request.
  using ComputedSource =
      std::function<Result<std::vector<Object>>(const std::string& ns, const std::string& name)>;
  void set_computed(const std::string& group, const std::string& resource, ComputedSource source);
  void set_registry(std::shared_ptr<const api::TypeRegistry> registry);
  /// Of what is stored; any thread.
  ObjectCache& cache() const { return cache_; }
  EventTexts& event_texts() { return event_texts_; }
  EventFrames& event_frames() { return event_frames_; }
  const std::shared_ptr<WakeList>& wakes() const { return wakes_; }
  /// A stored object for a reader in this process; shared by all readers where it is sent as it is stored.
  Result<Object> object_in_version(const api::TypeRecord& type, std::string_view version, const Value& stored,
                                   Revision revision);

  void set_pod_streams(std::shared_ptr<PodStreams> streams);
  std::shared_ptr<PodStreams> pod_streams() const;

  /// Who may do what.
  Access& access() const { return *access_; }
  /// Whom writes have to be shown, and how they are asked.
  WebhookCatalog& webhooks() const { return *webhooks_; }
  const WebhookCaller& webhook_caller() const { return *webhook_caller_; }
  /// Null until the server starts.
  std::shared_ptr<const TokenAuthority> tokens() const;
  void set_tokens(std::shared_ptr<const TokenAuthority> tokens);

  /// Who hears of requests; null: nobody. Set before the first request.
  const std::shared_ptr<AuditLog>& audit() const { return audit_; }
  void set_audit(std::shared_ptr<AuditLog> audit) { audit_ = std::move(audit); }

  /// Here, or on a worker thread where the work may have to wait for a webhook.
  void run(bool waits, std::function<void()> work, const std::function<void(const Error&)>& refused);

  std::atomic<std::size_t> watchers{0};

 private:
  struct WriteTask;
  void attempt(std::shared_ptr<WriteTask> task);
  bool may_wait(const WriteTask& task) const;
  std::int64_t deadline_of(const Call& call) const;
  bool has_lease(std::int64_t ttl_seconds, LeaseId& lease) const;
  void computed(const std::shared_ptr<WriteTask>& task, Result<Snapshot> snapshot);
  void write(Call call, api::TypePtr type, Answer answer);
  void computed_read(const Call& call, const api::TypeRecord& type, const Answer& answer);
  void get(Call call, api::TypePtr type, Answer answer);
  void list(Call call, api::TypePtr type, Answer answer);
  void remove_collection(Call call, api::TypePtr type, Answer answer);

  Engine& engine_;
  std::shared_ptr<StateStore> store_;
  CoreOptions options_;
  mutable std::mutex mutex_;
  std::shared_ptr<const api::TypeRegistry> registry_;
  std::shared_ptr<PodStreams> pod_streams_;
  std::map<std::string, ComputedSource> computed_;
  std::shared_ptr<const TokenAuthority> tokens_;
  std::shared_ptr<Access> access_;
  std::shared_ptr<WebhookCatalog> webhooks_;
  std::shared_ptr<const WebhookCaller> webhook_caller_;
  std::shared_ptr<AuditLog> audit_;
  /// Objects that expire (Events) share a lease per some minutes, by time to live.
  struct SharedLease {
    LeaseId id = 0;
    std::int64_t until_ns = 0;
  };
  std::map<std::int64_t, SharedLease> leases_;
  mutable ObjectCache cache_{engine_.clock()};
  EventTexts event_texts_;
  EventFrames event_frames_;
  std::shared_ptr<WakeList> wakes_;
};

/// May `user` do this? The error is a 403 that says what is missing. The decision is left in `notes`.
Result<void> authorize(const ApiCore& core, const Identity& user, const RequestInfo& info,
                       AuditNotes* notes = nullptr);

}  // namespace orchestra::apiserver
