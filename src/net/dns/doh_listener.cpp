#include "net/dns/doh_listener.hpp"

#include "net/dns/doh.hpp"

namespace orchestra::dns {
namespace {

// As for DNS by TCP: connections, and questions at once on one of them.
constexpr std::size_t kDohConnectionsMax = 256, kDohStreamsMax = 64;

void give_answer(HttpResponder& responder, std::string packet) {
  // Not for caches that several askers share: an answer may depend on who asks.
  std::string fresh = "private, max-age=" + std::to_string(doh_seconds(packet));
  responder.respond(200, {{"content-type", std::string(kDohType)}, {"cache-control", std::move(fresh)}},
                    std::move(packet));
}

void give_refusal(HttpResponder& responder, int status, const std::string& why) {
  HttpResponder::Headers headers{{"content-type", "text/plain"}};
  if (status == 405) headers.emplace_back("allow", "GET, POST");
  responder.respond(status, std::move(headers), why + "\n");
}

void answer_doh(Service& service, const HttpServerRequest& request,
                const std::shared_ptr<HttpResponder>& responder) {
  const auto peer = http::parse_address(request.peer.address);
  if (!peer || !service.admits(ip_of(*peer))) return give_refusal(*responder, 403, "you may not ask here");
  const auto type = request.headers.find("content-type");
  const DohQuery query =
      read_doh(request.method, request.target,
               type == request.headers.end() ? std::string_view() : type->second, request.body);
  if (query.status != 200) return give_refusal(*responder, query.status, query.why);
  const std::int64_t begin_ns = service.begin_ns();
  auto handled = service.handle(query.packet, {ip_of(*peer), false, true});
  if (handled.rest) {
    return service.finish(std::move(*handled.rest),
                          [responder, begin_ns, own = service.shared_from_this()](std::string packet) {
                            own->took(begin_ns);
                            give_answer(*responder, std::move(packet));
                          });
  }
  if (handled.packet.empty()) return give_refusal(*responder, 400, "that is no DNS query");
  service.took(begin_ns);
  give_answer(*responder, std::move(handled.packet));
}

}  // namespace

Result<std::shared_ptr<HttpServer>> start_doh_listener(Engine& engine, const std::string& address,
                                                       const std::string& certificate_pem,
                                                       const std::string& key_pem,
                                                       std::shared_ptr<Service> service) {
  HttpServerOptions options;
  options.listen = address;
  options.tls = true;
  options.certificate_pem = certificate_pem;
  options.key_pem = key_pem;
  options.connections_max = kDohConnectionsMax;
  options.streams_max = kDohStreamsMax;
  options.header_bytes_max = 16 << 10;
  options.body_bytes_max = kDohQueryBytesMax;
  options.idle_deadline = std::chrono::seconds(30);
  return HttpServer::start(
      engine, std::move(options),
      [service = std::move(service)](HttpServerRequest request, std::shared_ptr<HttpResponder> responder) {
        answer_doh(*service, request, responder);
      });
}

}  // namespace orchestra::dns
