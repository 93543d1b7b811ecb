#pragma once
// Client: a copyable handle on the API pipeline, in process (ApiServer::client()) or over HTTPS
// (RemoteClient). The same calls, the same answers, the same Status objects. Since 0.1.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/object.hpp"
#include "orchestra/pending.hpp"

namespace orchestra {

/// One request on the API, as verbs and names rather than as a URL.
struct ApiRequest {
  std::string verb;  ///< get list create update patch delete deletecollection (watch: see Client::watch)
  std::string api_version = "v1";
  std::string resource;  ///< plural, lower case: "pods"
  std::string subresource;
  std::string ns;  ///< empty: cluster scope, or all namespaces for lists
  std::string name;
  std::map<std::string, std::string> query;  ///< labelSelector, fieldSelector, limit, dryRun, ...
  std::string body;
  std::string content_type = "application/json";
  std::string accept = "application/json";
  /// Instead of `body` for create and update (DeleteOptions for delete): in process it is neither printed
  /// nor parsed again.
  Object object = {};
  bool want_object = false;  ///< the answer may come as ApiResponse::object instead of as body
  std::string fence = {};    ///< as WriteOptions::fence
  Duration deadline = std::chrono::seconds(30);
};
struct ApiResponse {
  int code = 200;
  std::string content_type = "application/json";
  std::string body;
  std::map<std::string, std::string> headers;
  Object object = {};  ///< set instead of `body` only where ApiRequest::want_object was
};

struct ObjectList {
  std::vector<Object> items;
  std::string resource_version;
  std::string continue_token;
};

struct ListOptions {
  std::string ns = {};
  std::string labels = {};  ///< label selector
  std::string fields = {};  ///< field selector
  std::int64_t limit = 0;
  std::string continue_token = {};
  std::string resource_version = {};
};
struct WriteOptions {
  std::string field_manager = {};
  bool dry_run = false;
  bool force = false;                 ///< apply: take conflicting fields
  std::string field_validation = {};  ///< "", Ignore, Warn, Strict
  std::string subresource = {};
  std::string fence = {};  ///< "KEY=REVISION" of the election's token; compared in the same transaction
  Duration deadline = std::chrono::seconds(30);
};
struct DeleteOptions {
  std::string propagation = {};  ///< "", Background, Foreground, Orphan
  std::optional<std::int64_t> grace_period_seconds = std::nullopt;
  std::string uid = {};               ///< precondition
  std::string resource_version = {};  ///< precondition
};
enum class PatchType : std::uint8_t { json, merge, strategic, apply };

/// What one watch delivers.
struct ObjectChange {
  enum class Type : std::uint8_t { added, modified, removed, bookmark, error };
  Type type = Type::added;
  Object object;  ///< error: the Status object; bookmark: resourceVersion only
};
class ORC_API ObjectWatch {
 public:
  struct Impl {
    virtual ~Impl() = default;
    virtual std::optional<std::vector<ObjectChange>> next(Duration deadline) = 0;
    virtual std::optional<std::vector<ObjectChange>> poll() = 0;
    virtual void notify(std::function<void()> ready) = 0;
    virtual std::optional<Error> error() const = 0;
    virtual void cancel() = 0;
  };
  explicit ObjectWatch(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  /// Changes in order; nullopt when the deadline passed or the watch ended (then error() is set).
  std::optional<std::vector<ObjectChange>> next(Duration deadline) { return impl_->next(deadline); }
  std::optional<std::vector<ObjectChange>> poll() { return impl_->poll(); }
  /// As Watch::notify of the store: one call when there is something to poll.
  void notify(std::function<void()> ready) { impl_->notify(std::move(ready)); }
  /// `expired`: list again.
  std::optional<Error> error() const { return impl_->error(); }
  void cancel() { impl_->cancel(); }

 private:
  std::shared_ptr<Impl> impl_;
};

class ByteStream;
class ProcessStream;
class DuplexStream;

class ORC_API Client {
 public:
  /// What stands behind a client: the API server in process, or HTTPS.
  struct Impl {
    virtual ~Impl() = default;
    virtual Pending<ApiResponse> request(ApiRequest request) = 0;
    virtual Result<ObjectWatch> watch(ApiRequest request) = 0;
    /// One proposal in process where the implementation can; else one after another.
    virtual Pending<std::vector<ApiResponse>> batch(std::vector<ApiRequest> requests) = 0;
    /// A list as objects; in process they are shared with all other readers.
    virtual Pending<ObjectList> list(ApiRequest request) = 0;
    virtual Pending<std::shared_ptr<ByteStream>> log(ApiRequest request) = 0;
    virtual Pending<std::shared_ptr<ProcessStream>> exec(ApiRequest request) = 0;
    virtual Pending<std::shared_ptr<DuplexStream>> port_forward(ApiRequest request, int port) = 0;
  };
  Client() = default;
  explicit Client(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  explicit operator bool() const { return impl_ != nullptr; }

  /// Any request; an HTTP error status is an Error with detail<Status>().
  Pending<ApiResponse> request(ApiRequest request) const;

  Pending<Object> create(const Object& object, WriteOptions options = {}) const;
  Pending<Object> get(const std::string& api_version, const std::string& resource, const std::string& name,
                      const std::string& ns = {}) const;
  Pending<ObjectList> list(const std::string& api_version, const std::string& resource,
                           ListOptions options = {}) const;
  /// Replaces; a resourceVersion in the object is the precondition.
  Pending<Object> update(const Object& object, WriteOptions options = {}) const;
  Pending<Object> patch(const std::string& api_version, const std::string& resource, const std::string& name,
                        const std::string& ns, PatchType type, const std::string& body,
                        WriteOptions options = {}) const;
  /// Server-side apply; WriteOptions::field_manager is needed.
  Pending<Object> apply(const Object& object, WriteOptions options) const;
  Pending<void> remove(const std::string& api_version, const std::string& resource, const std::string& name,
                       const std::string& ns = {}, DeleteOptions options = {}) const;
  Pending<void> remove_collection(const std::string& api_version, const std::string& resource,
                                  ListOptions which, DeleteOptions options = {}) const;
  /// resource_version empty: starts with what exists as `added`.
  Result<ObjectWatch> watch(const std::string& api_version, const std::string& resource,
                            ListOptions options = {}) const;
  Pending<std::vector<Result<Object>>> batch(std::vector<ApiRequest> requests) const;

  Impl* impl() const { return impl_.get(); }

 private:
  std::shared_ptr<Impl> impl_;
};

/// Resource (plural) of a kind, for builtin kinds and the usual plural rule for others: the client
/// needs it to find the path of an object.
ORC_API std::string resource_of_kind(const std::string& api_version, const std::string& kind);

}  // namespace orchestra
