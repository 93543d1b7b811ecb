#pragma once
// Audit: who asked what, and what came of it, as audit.k8s.io/v1 events to a sink of the host.
//
// A policy (audit.k8s.io/v1 Policy) says for each request how much is told; the first rule that matches
// decides, without a rule nothing is told. Bodies of Secrets and of tokens are never told, whatever the
// policy says. Events wait in a bounded queue for one worker at a time, so a slow sink delays nobody; what
// does not fit is dropped and counted. Ordinary requests give one event when they are answered, watches and
// streams one when they begin.
#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "apiserver/call.hpp"
#include "apiserver/request_path.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/engine.hpp"

namespace orchestra::apiserver {

enum class AuditLevel : std::uint8_t { none, metadata, request, request_response };

class AuditPolicy {
 public:
  /// YAML or JSON of kind Policy; empty: everything at level Metadata. `invalid` names the rule.
  static Result<AuditPolicy> parse(const std::string& text);
  AuditLevel level(const Identity& user, const RequestInfo& info) const;

 private:
  struct Resource {
    std::string group;
    std::vector<std::string> resources, names;
  };
  struct Rule {
    AuditLevel level = AuditLevel::none;
    std::vector<std::string> users, groups, verbs, namespaces, urls;
    std::vector<Resource> resources;
  };
  static bool matches(const Rule& rule, const Identity& user, const RequestInfo& info);
  std::vector<Rule> rules_;
};

class AuditLog : public std::enable_shared_from_this<AuditLog> {
 public:
  using Sink = std::function<void(const std::string& event)>;
  AuditLog(Engine& engine, AuditPolicy policy, Sink sink, std::size_t queue_max)
      : engine_(engine), policy_(std::move(policy)), sink_(std::move(sink)), queue_max_(queue_max) {}

  /// One request on its way. Only of the thread that handles the request, until it is answered.
  struct Record;
  std::shared_ptr<Record> begin(const HttpServerRequest& request, const RequestInfo& info);
  /// Once it is known who asks.
  void user_known(Record& record, const Identity& user) const;
  /// A responder that tells what it answers.
  std::shared_ptr<HttpResponder> watch(std::shared_ptr<Record> record,
                                       std::shared_ptr<HttpResponder> responder);
  std::uint64_t dropped() const { return dropped_; }

 private:
  friend class AuditedResponder;
  void tell(const Record& record, const char* stage, int code, const std::string& body);
  void drain();

  Engine& engine_;
  const AuditPolicy policy_;
  const Sink sink_;
  const std::size_t queue_max_;
  std::mutex mutex_;
  std::deque<std::string> queue_;
  bool draining_ = false;
  std::atomic<std::uint64_t> dropped_{0};
};

}  // namespace orchestra::apiserver
