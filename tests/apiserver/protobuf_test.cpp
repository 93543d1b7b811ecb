// Protobuf answers are the same objects as JSON answers: get, list, watch, metadata only, reviews, and what
// has no messages stays JSON.
#include <algorithm>

#include "api/protobuf.hpp"
#include "api/types.hpp"
#include "api/walker.hpp"
#include "base/http_client.hpp"
#include "base/json.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {
constexpr const char* kProtobuf = "application/vnd.kubernetes.protobuf";

struct Part {
  std::uint64_t number = 0;
  std::string_view bytes;
};
/// The length-delimited fields of a message.
std::vector<Part> parts_of(std::string_view bytes) {
  std::vector<Part> parts;
  const auto varint = [&] {
    std::uint64_t value = 0;
    for (int shift = 0; !bytes.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes.front());
      bytes.remove_prefix(1);
      value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) break;
    }
    return value;
  };
  while (!bytes.empty()) {
    const std::uint64_t key = varint();
    if ((key & 7) == 0) {
      varint();
      continue;
    }
    REQUIRE((key & 7) == 2);
    const std::uint64_t size = varint();
    REQUIRE(size <= bytes.size());
    parts.push_back({key >> 3, bytes.substr(0, size)});
    bytes.remove_prefix(size);
  }
  return parts;
}
std::string_view part(const std::vector<Part>& parts, std::uint64_t number) {
  for (const Part& one : parts) {
    if (one.number == number) return one.bytes;
  }
  return {};
}
std::string_view unwrapped(std::string_view body, std::string* kind = nullptr) {
  REQUIRE(body.substr(0, 4) == std::string_view("k8s\0", 4));
  const auto parts = parts_of(body.substr(4));
  if (kind != nullptr) *kind = part(parts_of(part(parts, 1)), 2);
  return part(parts, 2);
}

struct Asked {
  Engine engine;
  std::shared_ptr<StateStore> store = MemoryStore::create(engine);
  ApiServer server{engine, store, {.insecure_http = "127.0.0.1:0"}};
  std::shared_ptr<HttpClient> http = make_http_client(engine);
  Asked() { REQUIRE(server.start()); }
  ~Asked() { server.stop(); }
  HttpResponse ask(const std::string& path, const std::string& accept, const std::string& body = {}) {
    HttpRequest request;
    request.method = body.empty() ? "GET" : "POST";
    request.url = "http://" + server.insecure_address() + path;
    request.headers = {{"Accept", accept}};
    if (!body.empty()) request.headers.emplace_back("Content-Type", "application/json");
    request.body = body;
    auto answer = http->send(std::move(request)).wait(60s);
    REQUIRE_MESSAGE(answer, (answer ? "" : answer.error().to_string()));
    return *answer;
  }
  void make(const std::string& yaml) {
    auto objects = Object::many_from_yaml(yaml);
    REQUIRE(objects);
    for (const Object& object : *objects) {
      auto made = server.client().create(object).wait(30s);
      REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
    }
  }
};

/// What both forms must agree on: the tree as the schema completes it, without its own type's name.
std::string same_form(json::value tree, api::SchemaRef schema) {
  tree.get_object().erase("apiVersion");
  tree.get_object().erase("kind");
  REQUIRE(api::prune_unknown(schema, tree));
  std::map<std::string, std::string> flat;
  const std::function<void(const json::value&, const std::string&)> add = [&](const json::value& value,
                                                                              const std::string& path) {
    if (value.is_object() && !value.get_object().empty()) {
      for (const auto& member : value.get_object())
        add(member.value(), path + "/" + std::string(member.key()));
    } else if (value.is_array() && !value.get_array().empty()) {
      for (std::size_t i = 0; i < value.get_array().size(); ++i)
        add(value.get_array()[i], path + "/" + std::to_string(i));
    } else {
      flat[path] = to_json(value);
    }
  };
  add(tree, "");
  std::string out;
  for (const auto& [path, text] : flat) out += path + " " + text + "\n";
  return out;
}

const char* kObjects = R"(
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: default, labels: {a: b}, annotations: {x: "y"}, finalizers: [e.com/x]}
spec:
  terminationGracePeriodSeconds: 0
  nodeSelector: {disk: ssd}
  tolerations: [{key: k, operator: Exists, effect: NoExecute, tolerationSeconds: 3}]
  volumes: [{name: e, emptyDir: {}}, {name: s, secret: {secretName: s, defaultMode: 256, optional: true}},
    {name: p, projected: {sources: [{downwardAPI: {items: [{path: f, fieldRef: {fieldPath: metadata.name}}]}}]}}]
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In, values: [b, c]}]}]}}}
  containers:
  - name: c
    image: i
    command: [a, "", b]
    resources: {requests: {cpu: 100m, memory: 1Gi}, limits: {cpu: "2"}}
    env: [{name: A, value: ""}, {name: B, valueFrom: {secretKeyRef: {key: k, name: s}}}]
    ports: [{containerPort: 80, name: web}]
    readinessProbe: {periodSeconds: 3, httpGet: {port: web, path: /x}}
    livenessProbe: {tcpSocket: {port: 81}}
    securityContext: {privileged: false, runAsUser: 0, capabilities: {drop: [ALL]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d, namespace: default}
spec: {replicas: 0, selector: {matchLabels: {a: b}}, strategy: {rollingUpdate: {maxSurge: 25%, maxUnavailable: 1}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}
---
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: default}
stringData: {k: value, empty: ""}
---
apiVersion: v1
kind: Service
metadata: {name: svc, namespace: default}
spec: {selector: {a: b}, type: NodePort, clusterIP: 10.96.7.7, ports: [{port: 80, targetPort: web}]}
---
apiVersion: apps/v1
kind: ControllerRevision
metadata: {name: r, namespace: default}
data: {spec: {x: [1, {y: null}]}}
revision: 3
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: h, namespace: default}
spec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: v}
spec: {capacity: {storage: 5Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /x}}
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: l, namespace: default}
spec: {holderIdentity: me, renewTime: "2026-01-01T00:00:00.123456Z", leaseDurationSeconds: 10}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i, namespace: default}
spec: {rules: [{host: a.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: svc, port: {number: 80}}}}]}}]}
---
apiVersion: v1
kind: Event
metadata: {name: e, namespace: default}
involvedObject: {kind: Pod, name: p, namespace: default}
reason: Started
message: hello
type: Normal
firstTimestamp: "2026-01-01T00:00:00Z"
)";
}  // namespace

TEST_CASE("every kind that is stored is the same object in protobuf and in JSON") {
  Asked asked;
  asked.make(kObjects);
  std::size_t objects = 0;
  for (const api::TypePtr& type : api::TypeRegistry::builtin()->records()) {
    if (!type->allows("list") || type->computed) continue;
    for (const api::TypeVersion& version : type->versions) {
      const std::string path =
          (type->group.empty() ? "/api/" : "/apis/" + type->group + "/") + version.name + "/" + type->plural;
      const HttpResponse plain = asked.ask(path, "application/json");
      const HttpResponse binary = asked.ask(path, std::string(kProtobuf) + ",application/json;q=0.5");
      REQUIRE(binary.status == 200);
      if (type->defines_types) {
        CHECK(binary.headers.at("content-type") == "application/json");
        continue;
      }
      REQUIRE(binary.headers.at("content-type") == kProtobuf);
      const json::value list = parse_json(plain.body).value();
      std::string kind;
      const auto parts = parts_of(unwrapped(binary.body, &kind));
      CHECK(kind == type->list_kind);
      const json::array& items = *array_at(list, "/items");
      std::size_t at = 0;
      for (const Part& one : parts) {
        if (one.number != 2) continue;
        REQUIRE(at < items.size());
        const auto decoded = api::decode_protobuf_message(one.bytes, version.schema);
        REQUIRE_MESSAGE(decoded, (decoded ? "" : decoded.error().to_string()));
        CHECK_MESSAGE(same_form(*decoded, version.schema) == same_form(items[at], version.schema), path);
        ++at;
      }
      CHECK(at == items.size());
      objects += at;
      const auto metadata = api::decode_protobuf_message(
          part(parts, 1), api::builtin_type("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"));
      REQUIRE(metadata);
      CHECK(string_at(*metadata, "/resourceVersion") == string_at(list, "/metadata/resourceVersion"));
    }
  }
  CHECK(objects > 100);
}

TEST_CASE("one object, its metadata, and what has no messages") {
  Asked asked;
  asked.make(kObjects);
  const HttpResponse got = asked.ask("/api/v1/namespaces/default/pods/p", kProtobuf);
  std::string kind;
  const auto pod = api::decode_protobuf(got.body, api::builtin_type("io.k8s.api.core.v1.Pod"));
  REQUIRE(pod);
  CHECK(string_at(*pod, "/apiVersion") == "v1");
  CHECK(int_at(*pod, "/spec/containers/0/livenessProbe/tcpSocket/port") == 81);
  CHECK(string_at(*pod, "/spec/containers/0/readinessProbe/httpGet/port") == "web");
  const HttpResponse partial =
      asked.ask("/api/v1/namespaces/default/pods",
                std::string(kProtobuf) + ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
  const auto parts = parts_of(unwrapped(partial.body, &kind));
  CHECK(kind == "PartialObjectMetadataList");
  const auto metadata =
      api::decode_protobuf_message(part(parts_of(part(parts, 2)), 1),
                                   api::builtin_type("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"));
  REQUIRE(metadata);
  CHECK(string_at(*metadata, "/name") == "p");
  // A Scale is a message of its own; an error is a Status in JSON, which its Content-Type says.
  const HttpResponse scale = asked.ask("/apis/apps/v1/namespaces/default/deployments/d/scale", kProtobuf);
  unwrapped(scale.body, &kind);
  CHECK(kind == "Scale");
  const HttpResponse none = asked.ask("/api/v1/namespaces/default/pods/none", kProtobuf);
  CHECK(none.status == 404);
  CHECK(none.headers.at("content-type") == "application/json");
  CHECK(asked.ask("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", kProtobuf).status == 406);
  const HttpResponse review =
      asked.ask("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", kProtobuf,
                R"({"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview",)"
                R"("spec":{"resourceAttributes":{"verb":"get","resource":"pods"}}})");
  CHECK(review.status == 201);
  const auto answered = api::decode_protobuf(
      review.body, api::builtin_type("io.k8s.api.authorization.v1.SelfSubjectAccessReview"));
  REQUIRE(answered);
  CHECK(bool_at(*answered, "/status/allowed"));
}

TEST_CASE("a watch in protobuf is frames of events with whole objects") {
  Asked asked;
  asked.make(kObjects);
  HttpRequest request;
  request.url = "http://" + asked.server.insecure_address() +
                "/api/v1/namespaces/default/pods?watch=1&timeoutSeconds=1&allowWatchBookmarks=true";
  request.headers = {{"Accept", kProtobuf}};
  auto answer = asked.http->send(std::move(request)).wait(60s);
  REQUIRE(answer);
  CHECK(answer->headers.at("content-type") == "application/vnd.kubernetes.protobuf;stream=watch");
  std::string_view rest = answer->body;
  std::vector<std::string> types;
  while (rest.size() >= 4) {
    std::size_t size = 0;
    for (int i = 0; i < 4; ++i)
      size = size << 8 | static_cast<unsigned char>(rest[static_cast<std::size_t>(i)]);
    rest.remove_prefix(4);
    REQUIRE(size <= rest.size());
    const auto event = parts_of(rest.substr(0, size));
    rest.remove_prefix(size);
    types.emplace_back(part(event, 1));
    const auto pod =
        api::decode_protobuf(part(parts_of(part(event, 2)), 1), api::builtin_type("io.k8s.api.core.v1.Pod"));
    REQUIRE(pod);
    if (types.back() == "ADDED") CHECK(string_at(*pod, "/metadata/name") == "p");
  }
  CHECK(rest.empty());
  REQUIRE(types.size() >= 1);
  CHECK(types.front() == "ADDED");
}

TEST_CASE("an object is stored as the same bytes, whether its body was JSON or a message") {
  const auto documents = Object::many_from_yaml(kObjects).value();
  // What each server stores for the object, without what it draws by itself.
  const auto stored = [](Asked& asked, const Object& object, bool message) {
    const auto [group, version] = api::split_api_version(object.api_version());
    const api::TypePtr type = api::TypeRegistry::builtin()->find_kind(group, version, object.kind());
    const std::string ns(object.ns());
    const std::string path = (group.empty() ? "/api/" : "/apis/" + group + "/") + version +
                             (ns.empty() ? "" : "/namespaces/" + ns) + "/" + type->plural;
    HttpRequest request;
    request.method = "POST";
    request.url = "http://" + asked.server.insecure_address() + path + "?fieldManager=me";
    request.body = std::string(object.json());
    if (message) {
      const auto encoded =
          api::encode_protobuf_message(parse_json(object.json()).value(), type->version(version)->schema);
      REQUIRE(encoded);
      request.body = api::protobuf_envelope(object.api_version(), object.kind(), *encoded);
    }
    request.headers = {{"Content-Type", message ? kProtobuf : "application/json"}};
    auto answer = asked.http->send(std::move(request)).wait(60s);
    REQUIRE(answer);
    REQUIRE_MESSAGE(answer->status == 201, answer->body);
    const auto made = parse_json(answer->body).value();
    const std::string key = "/orchestra/objects/" + (group.empty() ? "core" : group) + "/" + type->plural +
                            "/" + (ns.empty() ? "-" : ns) + "/" + std::string(object.name());
    const auto kept = asked.store->get(key).wait(30s).value();
    REQUIRE_MESSAGE(kept.kv, key);
    std::string bytes(kept.kv->value.bytes());
    const auto forget = [&bytes](const std::string& drawn) {
      if (drawn.empty()) return;
      for (std::size_t at = bytes.find(drawn); at != std::string::npos; at = bytes.find(drawn, at))
        bytes.replace(at, drawn.size(), drawn.size(), '?');
    };
    forget(string_at(made, "/metadata/uid"));
    // Times of this second or the next: 2026-01-01T00:00:00Z.
    for (std::size_t at = bytes.find('T'); at != std::string::npos; at = bytes.find('T', at + 1)) {
      if (at >= 10 && at + 9 < bytes.size() && bytes[at - 3] == '-' && bytes[at + 9] == 'Z')
        bytes.replace(at - 10, 19, 19, '?');
    }
    for (const char* drawn : {"/spec/volumes/3/name", "/spec/clusterIP", "/spec/ports/0/nodePort"}) {
      const json::value* value = find(made, drawn);
      if (value != nullptr) forget(value->is_string() ? std::string(value->get_string()) : to_json(*value));
    }
    return bytes;
  };
  Asked plain, binary;
  std::size_t compared = 0;
  for (const Object& object : documents) {
    // Members are stored in the order in which they were sent: kObjects has that of the messages. These two
    // have no field for what is written and never read.
    if (object.kind() == "Secret" || object.kind() == "ControllerRevision") continue;
    CAPTURE(object.kind());
    const std::string one = stored(plain, object, false), other = stored(binary, object, true);
    const auto differs = static_cast<std::size_t>(
        std::mismatch(one.begin(),
                      one.begin() + static_cast<std::ptrdiff_t>(std::min(one.size(), other.size())),
                      other.begin())
            .first -
        one.begin());
    const std::size_t from = differs < 80 ? 0 : differs - 80;
    CHECK_MESSAGE(one == other, one.substr(from, 160) << "\n" << other.substr(from, 160));
    ++compared;
  }
  CHECK(compared >= 7);
}
