#pragma once
// Audit: who asked what, and what came of it, as audit.k8s.io/v1 events to a sink of the host.
//
// A policy (audit.k8s.io/v1 Policy) says for each request how much is told; the first rule that matches
// decides, without a rule nothing is told. Every request, over HTTP or of a Client in this process, gives an
// event when it was received and one when its answer is complete; watches and streams one more when their
// answer starts. Bodies of Secrets and of tokens are never told, whatever the policy says. Events wait in a
// queue, bounded by number and bytes, for one worker at a time, so a slow sink delays nobody; what does not
// fit is dropped and counted. There is no stage Panic: what upstream recovers from ends this process.
#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "apiserver/call.hpp"
#include "apiserver/request_path.hpp"
#include "base/json.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/engine.hpp"

namespace orchestra::apiserver {

enum class AuditLevel : std::uint8_t { none, metadata, request, request_response };
enum class AuditStage : std::uint8_t { request_received, response_started, response_complete, panic };

/// What the policy says about one request.
struct AuditScope {
  AuditLevel level = AuditLevel::none;
  std::uint8_t omitted = 0;  ///< a bit for each stage that is not told
  bool omit_managed_fields = false;
  bool tells(AuditStage stage) const {
    return level != AuditLevel::none && (omitted & (1U << static_cast<unsigned>(stage))) == 0;
  }
};

class AuditPolicy {
 public:
  /// YAML or JSON of kind Policy; empty: everything at level Metadata. `invalid` names the rule.
  static Result<AuditPolicy> parse(const std::string& text);
  AuditScope scope(const Identity& user, const RequestInfo& info) const;

 private:
  struct Resource {
    std::string group;
    std::vector<std::string> resources, names;
  };
  struct Rule {
    AuditScope scope;
    std::vector<std::string> users, groups, verbs, namespaces, urls;
    std::vector<Resource> resources;
  };
  static Result<Rule> read_rule(const json::value& from, const Rule& defaults, const std::string& where);
  static bool matches(const Rule& rule, const Identity& user, const RequestInfo& info);
  std::vector<Rule> rules_;
};

/// From where a request came.
struct AuditOrigin {
  std::string target;  ///< path and query
  std::string user_agent;
  std::string source;   ///< address; empty in process
  std::string id = {};  ///< chosen by the client; empty: by us
};

class AuditLog;

/// One request on its way. Of the threads that handle the request, one at a time; the end of a stream may
/// come from any thread.
class AuditRecord : public std::enable_shared_from_this<AuditRecord> {
 public:
  AuditRecord(std::shared_ptr<AuditLog> log, RequestInfo info, AuditOrigin origin);

  const std::string& id() const { return origin_.id; }
  /// Who asks is known: the policy decides, and RequestReceived is told.
  void received(const Identity& user);
  /// Nobody knows who asks: the answer alone is told.
  void refused();
  /// What the client sent; an object where it came as one.
  void request(const std::string& body, const std::string& content_type, const Object& object = {});
  /// Where the pipeline leaves annotations; null: nothing is told of this request.
  const std::shared_ptr<AuditNotes>& notes() const { return notes_; }
  /// What the client gets; the first call counts. Pieces are looked at as they pass.
  void answered(Reply& reply);
  void answered(int code, const std::string& body);
  /// Nobody is left who could answer; the server says 500 then.
  void dropped();
  /// The answer begins: told of watches and streams.
  void started(int code);
  /// The answer is at its end; once.
  void complete();

 private:
  bool wants_response() const {
    return scope_.level == AuditLevel::request_response && !long_running_ && info_.is_resource;
  }
  void decide(const Identity& user);
  void take_status(const std::string& body);
  void tell(AuditStage stage);

  const std::shared_ptr<AuditLog> log_;
  const RequestInfo info_;
  AuditOrigin origin_;
  const bool long_running_;
  const std::int64_t received_ns_;
  AuditScope scope_;
  Identity user_;
  std::shared_ptr<AuditNotes> notes_;
  json::object reference_;
  json::value request_, response_;  ///< null: none
  std::string pieces_;              ///< of a long answer
  int code_ = 0;                    ///< 0: not answered
  json::object status_;             ///< of an answer that is a Status
  std::atomic<bool> started_{false}, completed_{false};
};

class AuditLog : public std::enable_shared_from_this<AuditLog> {
 public:
  using Sink = std::function<void(const std::string& event)>;
  AuditLog(Engine& engine, AuditPolicy policy, Sink sink, std::size_t queue_max)
      : engine_(engine), policy_(std::move(policy)), sink_(std::move(sink)), queue_max_(queue_max) {}

  std::shared_ptr<AuditRecord> begin(RequestInfo info, AuditOrigin origin);
  /// A responder that tells `record` what it answers.
  static std::shared_ptr<HttpResponder> watch(std::shared_ptr<AuditRecord> record,
                                              std::shared_ptr<HttpResponder> responder);
  std::uint64_t dropped() const { return dropped_; }

 private:
  friend class AuditRecord;
  void offer(std::string event);
  void drain();

  Engine& engine_;
  const AuditPolicy policy_;
  const Sink sink_;
  const std::size_t queue_max_;
  std::mutex mutex_;
  std::deque<std::string> queue_;
  std::size_t queue_bytes_ = 0;
  bool draining_ = false;
  std::atomic<std::uint64_t> dropped_{0};
};

/// The same stream; `record` is complete when the last holder lets it go. A null record changes nothing.
template <class Stream>
std::shared_ptr<Stream> audited_stream(std::shared_ptr<AuditRecord> record, std::shared_ptr<Stream> stream) {
  if (record == nullptr || stream == nullptr) return stream;
  Stream* raw = stream.get();
  return std::shared_ptr<Stream>(raw,
                                 [record = std::move(record), stream = std::move(stream)](Stream*) mutable {
                                   stream.reset();
                                   record->complete();
                                 });
}

}  // namespace orchestra::apiserver
