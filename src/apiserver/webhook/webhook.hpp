#pragma once
// Webhooks: who is to be asked, and how. Calls block, so they are made on worker threads only.
//
// A clientConfig names a URL or a Service. A Service is looked up in the objects themselves, a ready endpoint
// is taken, and TLS is verified for NAME.NAMESPACE.svc. Always HTTPS, never a redirect, never an address that
// only means this link (169.254.0.0/16 and fe80::/10, where clouds keep their credentials), multicast or no
// address at all: checked on the address that is connected to, so a name cannot change its mind in between.
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "apiserver/auth/store_feed.hpp"
#include "apiserver/view.hpp"
#include "base/http_client.hpp"
#include "base/json.hpp"

namespace orchestra::apiserver {

struct WebhookTarget {
  std::string url;              ///< without the timeout parameter
  std::string ca_pem;           ///< empty: the system's bundle
  std::string connect_address;  ///< ADDRESS:PORT
  std::string server_name;      ///< for verification
};

/// Where a clientConfig points. Looks names up; blocks. `invalid`, `not_found`, `denied` with the reason.
Result<WebhookTarget> webhook_target(const json::value& client_config, const View& view);
/// False for addresses that webhooks may not have.
bool webhook_may_reach(const std::string& address);

class WebhookCaller {
 public:
  explicit WebhookCaller(Engine& engine);
  /// Sends a review; take() reads the answer. The timeout is told to the webhook as ?timeout=Ns.
  Pending<HttpResponse> send(const WebhookTarget& target, const json::value& review, Duration timeout) const;
  /// The JSON object of a 200 answer; the error says what else came.
  static Result<json::value> take(const WebhookTarget& target, Result<HttpResponse> answer, Duration timeout);
  Result<json::value> call(const WebhookTarget& target, const json::value& review, Duration timeout) const;

 private:
  std::shared_ptr<HttpClient> http_;
};

/// One entry of a Mutating- or ValidatingWebhookConfiguration.
struct Webhook {
  std::string configuration, name;
  json::value spec;
  bool fails_open = false;  ///< failurePolicy Ignore
  bool reinvoked = false;   ///< reinvocationPolicy IfNeeded
  Duration timeout = std::chrono::seconds(10);
};
using WebhookPtr = std::shared_ptr<const Webhook>;

/// The webhooks of the cluster, by configuration name and order; as new as what this process has committed.
class WebhookCatalog {
 public:
  WebhookCatalog(Engine& engine, std::shared_ptr<StateStore> store);
  /// An error where the configurations cannot be read: a write must not slip past them.
  Result<std::vector<WebhookPtr>> list(bool mutating);
  /// Could one of them be about writes on this resource? Cheap; true where that is not known.
  bool wants(const api::TypeRecord& type);

 private:
  using Configurations = std::map<std::string, std::vector<WebhookPtr>>;
  Result<void> refresh();
  static void take(Configurations& into, const std::string& prefix, const std::string& key,
                   const Value* value);

  std::mutex mutex_;
  Configurations mutating_, validating_;
  std::vector<StoreFeed> feeds_;
  bool open_ = false;
};

}  // namespace orchestra::apiserver
