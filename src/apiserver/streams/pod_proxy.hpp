#pragma once
// A request to the subresource `proxy`: of a pod or Service it is passed on over one connection into the pod,
// its answer passed back as it comes; upgraded connections (WebSocket) are joined byte by byte. Of a node its
// agent is asked for the page.
//
// Heads are rebuilt, never copied: hop-by-hop fields, the client's credentials and impersonation stay here,
// forwarding fields say who asked (upstream pkg/util/proxy); what the pod says about other origins
// (Access-Control-Allow-*) would be said of this server, and stays here, too. Answers are read by the strict
// parser of net/http. Redirects and links in HTML that lead to the pod get the proxy's prefix
// (proxy_links.hpp), in plain pages and in those with gzip; other encodings pass as they are.
#include "apiserver/core.hpp"
#include "apiserver/streams/proxy_links.hpp"
#include "net/http/head.hpp"
#include "net/http/http_server.hpp"

namespace orchestra::apiserver {

/// A target as it was sent, cut behind the subresource: ".../pods/p/proxy" and "/a%2Fb?x=1".
struct ProxyPath {
  std::string prefix, rest;
};
/// `segments` of the path belong to the prefix.
ProxyPath split_proxy_path(std::string_view target, std::size_t segments);

/// Printable characters alone: what may stand in the head of a request.
bool is_proxy_path(std::string_view target);

/// The request as the pod gets it.
std::string proxied_request(const HttpServerRequest& request, const ProxyPath& path, const std::string& host);
/// Fields of the answer as the client gets them.
HttpResponder::Headers proxied_answer(const http::Head& head, const LinkBase& base);

/// Authorized before.
void serve_proxy(ApiCore& core, Call call, const HttpServerRequest& request,
                 std::shared_ptr<HttpResponder> responder);

}  // namespace orchestra::apiserver
