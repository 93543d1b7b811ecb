// Request bodies of every format and several kinds, through the whole pure pipeline: what decodes can be
// defaulted (twice is once), validated and printed, and its JSON decodes to the same tree.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "api/content.hpp"
#include "api/table.hpp"
#include "api/walker.hpp"
#include "base/json.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra;
  using namespace orchestra::api;
  if (size < 1) return 0;
  static const GroupVersionKind kKinds[] = {{"", "v1", "Pod"},       {"apps", "v1", "Deployment"},
                                            {"", "v1", "Service"},   {"", "v1", "Secret"},
                                            {"", "v1", "Event"},     {"batch", "v1", "Job"},
                                            {"", "v1", "Namespace"}, {"networking.k8s.io", "v1", "Ingress"}};
  const GroupVersionKind& gvk = kKinds[data[0] % 8];
  const BodyFormat format = static_cast<BodyFormat>((data[0] >> 3) % 3);
  const std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  const TypePtr record = TypeRegistry::builtin()->find_kind(gvk);
  const SchemaRef schema = record->versions.front().schema;
  auto body = decode_body(bytes, format, gvk, schema);
  if (!body) {
    if (body.error().detail<Status>() == nullptr) std::abort();
    return 0;
  }
  const std::string canonical = to_json(body->tree);
  if (format == BodyFormat::protobuf) {  // is decoded into what the check of other formats makes
    json::value checked = body->tree;
    const auto unknown = prune_unknown(schema, checked);
    if (!unknown || !unknown->empty() || to_json(checked) != canonical) std::abort();
  }
  const auto again = decode_body(canonical, BodyFormat::json, gvk, schema);
  if (!again || !again->unknown.empty() || to_json(again->tree) != canonical) std::abort();
  apply_defaults(schema, body->tree);
  const std::string once = to_json(body->tree);
  apply_defaults(schema, body->tree);
  if (to_json(body->tree) != once) std::abort();
  (void)validate_create(*record, record->versions.front().schema, body->tree);
  (void)validate_update(*record, record->versions.front().schema, body->tree, body->tree);
  if (table_cells(*record, body->tree.get_object(), Now{}).size() != record->columns.size()) std::abort();
  return 0;
}
