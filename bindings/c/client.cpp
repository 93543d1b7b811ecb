// orc_client_*: requests and watches on the API.
#include "api/types.hpp"
#include "bindings/c/handles.hpp"
#include "orchestra/remote_client.hpp"

using namespace orchestra;
using namespace orchestra::c;

struct orc_watch {
  std::mutex mutex;
  ObjectWatch watch;
  ReadyFd ready;
};

namespace {
int hex(char c) {
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                : -1;
}

std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0) {
      out += static_cast<char>(hex(text[i + 1]) * 16 + hex(text[i + 2]));
      i += 2;
    } else {
      out += text[i] == '+' ? ' ' : text[i];
    }
  }
  return out;
}

/// Where an object lives: a namespaced builtin without namespace is in "default", as for kubectl.
struct Place {
  std::string resource, ns;
};
Place place_of(const Object& object) {
  Place out{resource_of_kind(object.api_version(), object.kind()), object.ns()};
  const auto [group, version] = api::split_api_version(object.api_version());
  const api::TypePtr type = api::TypeRegistry::builtin()->find_kind(group, version, object.kind());
  if (type != nullptr && type->namespaced && out.ns.empty()) out.ns = "default";
  if (type != nullptr && !type->namespaced) out.ns.clear();
  return out;
}

}  // namespace

Result<ApiRequest> orchestra::c::request_of(const orc_request& in) {
  ApiRequest out;
  out.verb = text_of(in.verb);
  if (in.api_version != nullptr) out.api_version = in.api_version;
  out.resource = text_of(in.resource);
  out.subresource = text_of(in.subresource);
  out.ns = text_of(in.ns);
  out.name = text_of(in.name);
  if (in.content_type != nullptr) out.content_type = in.content_type;
  if (in.body != nullptr) out.body.assign(in.body, in.body_size);
  out.deadline = milliseconds(in.timeout_ms > 0 ? in.timeout_ms : kDefaultTimeoutMs);
  std::string_view query = in.query != nullptr ? in.query : "";
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    const std::string_view pair = query.substr(0, end);
    const std::size_t equals = std::min(pair.find('='), pair.size());
    out.query[unescape(pair.substr(0, equals))] =
        equals < pair.size() ? unescape(pair.substr(equals + 1)) : "";
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  if (out.resource.empty() && !out.body.empty()) {
    ORC_ASSIGN(const Object object, Object::from_json(out.body));
    out.api_version = object.api_version();
    const Place place = place_of(object);
    out.resource = place.resource;
    if (out.ns.empty()) out.ns = place.ns;
    if (out.name.empty() && out.verb != "create") out.name = object.name();
  }
  if (out.verb.empty() || out.resource.empty())
    return Error(Error::invalid, "c", "a request needs verb and resource");
  return out;
}

namespace {
Result<void> apply_one(const Client& client, const Object& object, Duration deadline) {
  WriteOptions options;
  options.field_manager = "orchestra-c";
  options.deadline = deadline;
  auto created = client.create(object, options).wait(deadline);
  if (created) return {};
  if (!created.error().is(Error::already_exists)) return created.error();
  const Place place = place_of(object);
  auto patched = client
                     .patch(object.api_version(), place.resource, object.name(), place.ns, PatchType::merge,
                            std::string(object.json()), options)
                     .wait(deadline);
  if (!patched) return patched.error();
  return {};
}

const char* name_of(ObjectChange::Type type) {
  switch (type) {
    case ObjectChange::Type::added:
      return "ADDED";
    case ObjectChange::Type::modified:
      return "MODIFIED";
    case ObjectChange::Type::removed:
      return "DELETED";
    case ObjectChange::Type::bookmark:
      return "BOOKMARK";
    case ObjectChange::Type::error:
      return "ERROR";
  }
  return "ERROR";
}
}  // namespace

orc_code orc_client_request(orc_client* client, const orc_request* request, orc_bytes* body,
                            orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (!usable(client, request) || body == nullptr)
      return bad("client, request (with its size) and body must be given", error);
    auto converted = request_of(*request);
    if (!converted) return fail(converted.error(), error);
    const Duration deadline = converted->deadline;
    auto response = client->client.request(std::move(*converted)).wait(deadline);
    if (!response) return fail(response.error(), error);
    give(body, response->body);
    return ORC_OK;
  });
}

orc_code orc_client_apply_manifest(orc_client* client, const char* text, size_t size, int64_t timeout_ms,
                                   size_t* applied, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (client == nullptr || text == nullptr) return bad("client and text must be given", error);
    auto objects = Object::many_from_yaml({text, size});
    if (!objects) return fail(objects.error(), error);
    if (applied != nullptr) *applied = 0;
    for (const Object& object : *objects) {
      auto done =
          apply_one(client->client, object, milliseconds(timeout_ms > 0 ? timeout_ms : kDefaultTimeoutMs));
      if (!done) return fail(done.error().with_context(object.kind() + " " + object.name()), error);
      if (applied != nullptr) ++*applied;
    }
    return ORC_OK;
  });
}

orc_code orc_client_apply(orc_client* client, const char* text, size_t size, const orc_apply_options* options,
                          orc_bytes* out, size_t* applied, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (client == nullptr || text == nullptr || out == nullptr)
      return bad("client, text and out must be given", error);
    if (options == nullptr || options->size != sizeof(orc_apply_options) || text_of(options->manager).empty())
      return bad("options, with their size and a manager, must be given", error);
    auto objects = Object::many_from_yaml({text, size});
    if (!objects) return fail(objects.error(), error);
    if (applied != nullptr) *applied = 0;
    WriteOptions with;
    with.field_manager = options->manager;
    with.force = options->force != 0;
    with.dry_run = options->dry_run != 0;
    with.deadline = milliseconds(options->timeout_ms > 0 ? options->timeout_ms : kDefaultTimeoutMs);
    std::string answers = "[";
    for (const Object& object : *objects) {
      const auto done = client->client.apply(object, with).wait(with.deadline);
      if (!done) return fail(done.error().with_context(object.kind() + " " + object.name()), error);
      if (answers.size() > 1) answers += ',';
      answers += done->json();
      if (applied != nullptr) ++*applied;
    }
    give(out, answers + "]");
    return ORC_OK;
  });
}

orc_code orc_client_watch(orc_client* client, const orc_request* request, orc_watch** out,
                          orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (!usable(client, request) || out == nullptr)
      return bad("client, request (with its size) and out must be given", error);
    orc_request wanted = *request;
    if (wanted.verb == nullptr) wanted.verb = "watch";
    auto converted = request_of(wanted);
    if (!converted) return fail(converted.error(), error);
    auto watch = client->client.impl()->watch(std::move(*converted));
    if (!watch) return fail(watch.error(), error);
    *out = new orc_watch{{}, std::move(*watch), {}};
    (*out)->watch.notify((*out)->ready.signal());
    return ORC_OK;
  });
}

orc_code orc_watch_next(orc_watch* watch, int64_t timeout_ms, orc_bytes* events, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (watch == nullptr || events == nullptr) return bad("watch and events must be given", error);
    std::lock_guard lock(watch->mutex);
    auto batch = timeout_ms > 0 ? watch->watch.next(milliseconds(timeout_ms)) : watch->watch.poll();
    watch->ready.clear();
    watch->watch.notify(watch->ready.signal());
    if (!batch) return watch->watch.error() ? fail(*watch->watch.error(), error) : ORC_EDEADLINEEXCEEDED;
    std::string text = "[";
    for (const ObjectChange& change : *batch) {
      if (text.size() > 1) text += ',';
      text.append("{\"type\":\"")
          .append(name_of(change.type))
          .append("\",\"object\":")
          .append(change.object.json())
          .append("}");
    }
    text += ']';
    give(events, text);
    return ORC_OK;
  });
}
int orc_watch_fd(orc_watch* watch) { return watch != nullptr ? watch->ready.get() : -1; }
void orc_watch_free(orc_watch* watch) {
  if (watch == nullptr) return;
  watch->watch.cancel();
  delete watch;
}
void orc_client_free(orc_client* client) { delete client; }

orc_code orc_client_connect(orc_engine* engine, const char* kubeconfig_path, const char* context,
                            orc_client** out, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (engine == nullptr || kubeconfig_path == nullptr || out == nullptr)
      return bad("engine, kubeconfig_path and out must be given", error);
    auto client = RemoteClient::from_kubeconfig(*engine->engine, kubeconfig_path, text_of(context));
    if (!client) return fail(client.error(), error);
    *out = new orc_client{std::move(*client)};
    return ORC_OK;
  });
}
