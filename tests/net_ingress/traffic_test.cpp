// Steering requests among Services, and holding them for one that is scaled to zero.
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <thread>

#include "base/bounded_queue.hpp"
#include "base/http_client.hpp"
#include "net/http/http_server.hpp"
#include "net/ingress/route_table.hpp"
#include "orchestra/http_proxy.hpp"
#include "support.hpp"
#include "tests/support/test.hpp"

namespace orchestra {
namespace {

using namespace std::chrono_literals;
using test::rules;
using test::SnapshotBuilder;
using Source = TrafficCondition::Source;
using Kind = TrafficCondition::Kind;

struct Steered {
  Engine engine;
  std::shared_ptr<HttpClient> client = make_http_client(engine);
  std::vector<std::shared_ptr<HttpServer>> servers;
  std::shared_ptr<HttpProxy> proxy;

  explicit Steered(HttpProxyOptions options = {}) {
    options.listen = {"127.0.0.1:0"};
    proxy = HttpProxy::create(engine, std::move(options)).value();
  }
  /// A backend whose answer is its name.
  std::string serve(const std::string& name, int status = 200) {
    HttpServerOptions options;
    options.listen = "127.0.0.1:0";
    const auto answer = [name, status](HttpServerRequest, std::shared_ptr<HttpResponder> responder) {
      responder->respond(status, {}, name);
    };
    servers.push_back(HttpServer::start(engine, std::move(options), answer).value());
    return servers.back()->address();
  }
  std::string get(const std::string& path = "/",
                  std::vector<std::pair<std::string, std::string>> headers = {}) {
    HttpRequest request{.url = "http://" + proxy->addresses().at(0) + path};
    request.headers.emplace_back("Host", "h");
    for (auto& header : headers) request.headers.push_back(std::move(header));
    const auto response = client->send(std::move(request)).wait(60s);
    return response ? response->body : response.error().to_string();
  }
  std::map<std::string, int> count(int requests) {
    std::map<std::string, int> seen;
    for (int i = 0; i < requests; ++i) ++seen[get()];
    return seen;
  }
};

SnapshotBuilder two_versions(const std::string& stable, const std::string& canary) {
  SnapshotBuilder builder;
  builder.service("web", {stable}).service("web-canary", {canary}).ingress("i", rules("h", {"Prefix / web"}));
  return builder;
}

/// Holds every Service and notes the demand.
struct Holds final : RequestHold {
  bool holds(const NamespacedName& service) override { return service.name == "web"; }
  void demand(const NamespacedName&, std::size_t waiting) override { now = waiting; }
  std::atomic<std::size_t> now{0};
};

template <class Condition>
bool soon(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + 30s;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace

TEST_CASE("weights share the requests of a route, and a weight of 0 takes no new one") {
  Steered f;
  f.proxy->publish(two_versions(f.serve("stable"), f.serve("canary")).build());
  TrafficRouter& traffic = f.proxy->traffic();
  CHECK(f.count(5) == std::map<std::string, int>{{"stable", 5}});

  const auto half = traffic.set_weights("h/", {{"web", 50}, {"web-canary", 50}});
  REQUIRE(half.has_value());
  CHECK(traffic.confirmed(*half));
  CHECK_FALSE(traffic.confirmed(*half + 1));
  const auto seen = f.count(400);  // a fair coin leaves 140..260 once in 10^9
  CHECK(seen.size() == 2);
  CHECK(seen.at("canary") > 140);
  CHECK(seen.at("canary") < 260);

  REQUIRE(traffic.set_weights("h/", {{"web", 0}, {"web-canary", 1}}).has_value());
  CHECK(f.count(50) == std::map<std::string, int>{{"canary", 50}});
  const auto observed = traffic.observe("h/");
  REQUIRE(observed.size() == 2);
  CHECK(observed[0].backend == "web");
  CHECK(observed[0].requests + observed[1].requests == 450);
  CHECK(observed[1].requests == static_cast<std::uint64_t>(seen.at("canary") + 50));
  CHECK(observed[1].answers[1] == observed[1].requests);
  CHECK(f.proxy->explain("h", "/").find("1 of 1 to Service shop/web-canary") != std::string::npos);

  REQUIRE(traffic.reset("h/").has_value());
  CHECK(f.count(5) == std::map<std::string, int>{{"stable", 5}});
  CHECK(traffic.observe("h/").empty());
}

TEST_CASE("matches on header, cookie, query and method go before weights") {
  Steered f;
  f.proxy->publish(two_versions(f.serve("stable"), f.serve("canary")).build());
  TrafficRouter& traffic = f.proxy->traffic();
  const auto only = [&](TrafficCondition condition) {
    return traffic.set_matches("h/", {{.conditions = {std::move(condition)}, .backend = "web-canary"}})
        .has_value();
  };
  REQUIRE(only({Source::header, "X-Group", Kind::exact, "beta"}));
  CHECK(f.get("/", {{"x-group", "beta"}}) == "canary");
  CHECK(f.get("/", {{"x-group", "beta2"}}) == "stable");
  REQUIRE(only({Source::cookie, "group", Kind::prefix, "be"}));
  CHECK(f.get("/", {{"Cookie", "a=b; group=beta"}}) == "canary");
  CHECK(f.get("/", {{"Cookie", "agroup=beta"}}) == "stable");
  REQUIRE(only({Source::query, "preview", Kind::present, ""}));
  CHECK(f.get("/?x=1&preview") == "canary");
  CHECK(f.get("/preview") == "stable");
  REQUIRE(only({Source::method, "", Kind::exact, "POST"}));
  CHECK(f.get("/") == "stable");
}

TEST_CASE("what cannot be steered is refused with the reason") {
  Steered f;
  TrafficRouter& traffic = f.proxy->traffic();
  const auto why = [](const auto& result) { return result ? std::string("done") : result.error().message(); };
  CHECK(why(traffic.set_weights("h", {{"a", 1}})) == "route \"h\" is not HOST/PATH, as in shop.example/api");
  CHECK(why(traffic.set_weights("h/", {{"a", 0}})) ==
        "at least one weight must be above 0, else no request could be answered");
  CHECK(why(traffic.set_weights("h/", {{"", 1}})) == "a backend needs the name of a Service");
  CHECK(why(traffic.set_matches("h/", {{.conditions = {}, .backend = "a"}})) ==
        "a match needs a condition; all requests are the weights' part");
  CHECK(why(traffic.set_matches(
            "h/", {{.conditions = {{Source::header, "", Kind::exact, "x"}}, .backend = "a"}})) ==
        "a condition on a header, cookie or query needs a name");
}

TEST_CASE("requests for a Service that is scaled to zero wait for its first endpoint, and none is lost") {
  const auto hold = std::make_shared<Holds>();
  HttpProxyOptions options;
  options.hold = hold;
  options.workers = 1;
  options.held_per_service_max = 3;
  Steered f(options);
  const auto published = [&](const std::vector<std::string>& endpoints) {
    f.proxy->publish(
        SnapshotBuilder().service("web", endpoints).ingress("i", rules("h", {"Prefix / web"})).build());
  };
  published({});
  std::vector<std::string> answers(4);
  std::vector<std::thread> clients;
  for (std::size_t i = 0; i < 3; ++i) {
    clients.emplace_back([&, i] { answers[i] = f.get("/" + std::to_string(i)); });
    REQUIRE(soon([&] { return hold->now == i + 1; }));
  }
  CHECK(f.get() == "503 more than 3 requests for shop/web wait\n");
  published({});  // another change: they wait on
  CHECK(hold->now == 3);
  published({f.serve("awake")});
  for (std::thread& client : clients) client.join();
  CHECK(answers[0] == "awake");
  CHECK(answers[1] == "awake");
  CHECK(answers[2] == "awake");
  CHECK(hold->now == 0);
}

TEST_CASE("a held request ends with 503 at its deadline or when its route goes") {
  const auto hold = std::make_shared<Holds>();
  HttpProxyOptions options;
  options.hold = hold;
  options.workers = 1;
  options.hold_deadline = 50ms;
  Steered f(options);
  f.proxy->publish(SnapshotBuilder().service("web", {}).ingress("i", rules("h", {"Prefix / web"})).build());
  CHECK(f.get() == "503 no endpoint of the service became ready in time\n");
  options.hold_deadline = 60s;
  Steered g(options);
  g.proxy->publish(SnapshotBuilder().service("web", {}).ingress("i", rules("h", {"Prefix / web"})).build());
  hold->now = 0;
  std::string answer;
  std::thread client([&] { answer = g.get(); });
  const bool waits = soon([&] { return hold->now == 1; });
  g.proxy->publish(SnapshotBuilder().service("web", {}).build());
  client.join();
  CHECK(waits);
  CHECK(answer == "503 the route went while the request waited\n");
}

TEST_CASE("a bounded queue refuses the newest by name or lets the oldest go") {
  BoundedQueue<int> queue("jobs", 2);
  CHECK(queue.push(1).has_value());
  CHECK(queue.push(2).has_value());
  const auto refused = queue.push(3);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().is(Error::resource_exhausted));
  CHECK(refused.error().message() == "more than 2 jobs wait");
  CHECK(queue.push_or_drop_oldest(4) == 1);
  CHECK(queue.pop() == 2);
  CHECK(queue.pop() == 4);
  CHECK_FALSE(queue.pop().has_value());
  BoundedQueue<int> none("jobs", 0);
  CHECK(none.push_or_drop_oldest(7) == 7);
  CHECK(none.empty());
}

}  // namespace orchestra
