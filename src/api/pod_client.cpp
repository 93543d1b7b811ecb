// PodClient: names and options of pods as requests on a Client.
#include "orchestra/pod_client.hpp"

#include "base/json.hpp"

namespace orchestra {
namespace {

Error no_client() {
  return {Error::invalid, "client",
          "this PodClient has no Client; take one from ApiServer::client() or RemoteClient"};
}

ApiRequest pod_request(const PodName& pod, const char* verb, const char* subresource) {
  ApiRequest request;
  request.verb = verb;
  request.resource = "pods";
  request.subresource = subresource;
  request.ns = pod.ns.empty() ? "default" : pod.ns;
  request.name = pod.name;
  return request;
}

ApiRequest process_request(const PodName& pod, const ExecOptions& options, const char* subresource) {
  ApiRequest request = pod_request(pod, "create", subresource);
  json::object body{
      {"stdin", options.in}, {"stdout", options.out}, {"stderr", options.err}, {"tty", options.tty}};
  if (!pod.container.empty()) body["container"] = pod.container;
  json::array command;
  for (const std::string& word : options.command) command.emplace_back(word);
  if (!command.empty()) body["command"] = std::move(command);
  request.body = to_json(body);
  return request;
}

}  // namespace

Pending<std::shared_ptr<ByteStream>> PodClient::log(const PodName& pod, const LogOptions& options) const {
  if (!client_) return no_client();
  ApiRequest request = pod_request(pod, "get", "log");
  auto& query = request.query;
  if (!pod.container.empty()) query["container"] = pod.container;
  if (options.follow) query["follow"] = "true";
  if (options.previous) query["previous"] = "true";
  if (options.timestamps) query["timestamps"] = "true";
  if (options.since_seconds) query["sinceSeconds"] = std::to_string(*options.since_seconds);
  if (options.tail_lines) query["tailLines"] = std::to_string(*options.tail_lines);
  if (options.limit_bytes) query["limitBytes"] = std::to_string(*options.limit_bytes);
  if (!options.since_time.empty()) query["sinceTime"] = options.since_time;
  return client_.impl()->log(std::move(request));
}

Pending<std::shared_ptr<ProcessStream>> PodClient::exec(const PodName& pod,
                                                        const ExecOptions& options) const {
  if (!client_) return no_client();
  if (options.command.empty())
    return Error(Error::invalid, "client",
                 "exec in pod " + pod.name + " needs a command; attach joins the main process");
  return client_.impl()->exec(process_request(pod, options, "exec"));
}

Pending<std::shared_ptr<ProcessStream>> PodClient::attach(const PodName& pod,
                                                          const ExecOptions& options) const {
  if (!client_) return no_client();
  ExecOptions joined = options;
  joined.command.clear();
  return client_.impl()->exec(process_request(pod, joined, "attach"));
}

Pending<std::shared_ptr<DuplexStream>> PodClient::port_forward(const PodName& pod, int port) const {
  if (!client_) return no_client();
  if (port < 1 || port > 65535)
    return Error(Error::invalid, "client",
                 "port " + std::to_string(port) + " of pod " + pod.name + " is not in 1-65535");
  return client_.impl()->port_forward(pod_request(pod, "create", "portforward"), port);
}

Pending<void> PodClient::evict(const PodName& pod, const DeleteOptions& options) const {
  ApiRequest request = pod_request(pod, "create", "eviction");
  json::object body{{"apiVersion", "policy/v1"},
                    {"kind", "Eviction"},
                    {"metadata", json::object{{"name", pod.name}, {"namespace", request.ns}}}};
  json::object how;
  if (options.grace_period_seconds) how["gracePeriodSeconds"] = *options.grace_period_seconds;
  if (!options.uid.empty()) how["preconditions"] = json::object{{"uid", options.uid}};
  if (!how.empty()) body["deleteOptions"] = std::move(how);
  request.body = to_json(body);
  return client_.request(std::move(request)).then([](Result<ApiResponse> answer) -> Result<void> {
    if (!answer) return answer.error();
    return {};
  });
}

Pending<AccountToken> PodClient::token(const std::string& ns, const std::string& account,
                                       const std::vector<std::string>& audiences,
                                       std::int64_t expiration_seconds) const {
  ApiRequest request;
  request.verb = "create";
  request.resource = "serviceaccounts";
  request.subresource = "token";
  request.ns = ns.empty() ? "default" : ns;
  request.name = account;
  json::object spec{{"expirationSeconds", expiration_seconds}};
  json::array list;
  for (const std::string& audience : audiences) list.emplace_back(audience);
  spec["audiences"] = std::move(list);
  request.body = to_json(json::object{
      {"apiVersion", "authentication.k8s.io/v1"}, {"kind", "TokenRequest"}, {"spec", std::move(spec)}});
  return client_.request(std::move(request)).then([](Result<ApiResponse> answer) -> Result<AccountToken> {
    if (!answer) return answer.error();
    ORC_ASSIGN(const json::value tree, parse_json(answer->body));
    return AccountToken{string_at(tree, "/status/token"), string_at(tree, "/status/expirationTimestamp")};
  });
}

}  // namespace orchestra
