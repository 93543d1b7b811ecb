#pragma once
// A server over a memory store, asked over HTTPS with tokens and in process as any user.
#include "base/http_client.hpp"
#include "base/json.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "orchestra/remote_client.hpp"
#include "tests/support/test.hpp"

namespace orchestra::test {
using namespace std::chrono_literals;

struct Served {
  TempDir folder;
  Engine engine;
  std::shared_ptr<StateStore> store = MemoryStore::create(engine);
  ApiServer server;
  Client admin;
  std::shared_ptr<HttpClient> http = make_client();
  explicit Served(ApiServerOptions options = {})
      : server(engine, store, with(std::move(options), folder.path())) {
    const auto started = server.start();
    REQUIRE_MESSAGE(started, (started ? "" : started.error().to_string()));
    admin = server.client();
  }
  ~Served() { server.stop(); }
  static ApiServerOptions with(ApiServerOptions options, const std::string& folder) {
    options.listen = "127.0.0.1:0";
    options.data_directory = folder;
    return options;
  }
  std::shared_ptr<HttpClient> make_client();
  HttpResponse ask(const std::string& method, const std::string& path, const std::string& token,
                   const std::string& body = {},
                   std::vector<std::pair<std::string, std::string>> headers = {}) {
    HttpRequest request;
    request.method = method;
    request.url = "https://" + server.address() + path;
    request.tls.ca_pem = server.ca_pem();
    request.body = body;
    request.headers = std::move(headers);
    if (!token.empty()) request.headers.emplace_back("Authorization", "Bearer " + token);
    if (!body.empty()) request.headers.emplace_back("Content-Type", "application/json");
    auto answer = http->send(std::move(request)).wait(60s);
    REQUIRE_MESSAGE(answer, (answer ? "" : answer.error().to_string()));
    return *answer;
  }
  std::string message(const HttpResponse& response) {
    auto tree = parse_json(response.body);
    return std::to_string(response.status) + " " + (tree ? string_at(*tree, "/message") : response.body);
  }
  Object make(const std::string& yaml) {
    auto object = Object::from_yaml(yaml);
    REQUIRE_MESSAGE(object, yaml);
    auto made = admin.create(*object).wait(30s);
    REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
    return *made;
  }
  /// "201", or the code and message of the refusal.
  static std::string answer(const Result<Object>& made) {
    if (made) return "ok";
    const Status* status = made.error().detail<Status>();
    return status == nullptr ? made.error().to_string()
                             : std::to_string(status->code) + " " + status->message;
  }
  std::string try_make(const Client& client, const std::string& yaml) {
    auto object = Object::from_yaml(yaml);
    REQUIRE_MESSAGE(object, yaml);
    return answer(client.create(*object).wait(30s));
  }
  /// TokenRequest; the body is `spec` as JSON.
  HttpResponse request_token(const std::string& ns, const std::string& account,
                             const std::string& spec = "{}");
  std::string token(const std::string& ns, const std::string& account, const std::string& spec = "{}");
};

}  // namespace orchestra::test
