// See formats.hpp. Upstream: apiextensions-apiserver/pkg/apiserver/validation/formats.go and the warnings of
// the strategy of definitions.
#include "api/crd/formats.hpp"

#include <algorithm>
#include <set>

#include "api/crd/structural.hpp"
#include "api/tree.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

void collect(const json::value& schema, int depth, std::set<std::string>& unknown) {
  static const std::set<std::string_view> kKnown = {
      "bsonobjectid", "uri",        "email",    "hostname",     "ipv4",       "ipv6", "cidr",
      "mac",          "uuid",       "uuid3",    "uuid4",        "uuid5",      "isbn", "isbn10",
      "isbn13",       "creditcard", "ssn",      "hexcolor",     "rgbcolor",   "byte", "password",
      "date",         "duration",   "datetime", "k8sshortname", "k8slongname"};
  if (depth > kSchemaDepthMax || !schema.is_object()) return;
  const json::object& object = schema.get_object();
  std::string format(text_of(object, "format"));
  std::string plain = format;
  std::erase(plain, '-');
  if (!format.empty() && text_of(object, "type") == "string" && !kKnown.contains(plain))
    unknown.insert(format);
  for (const char* word : {"items", "additionalProperties", "not"}) {
    if (const json::value* below = object.if_contains(word)) collect(*below, depth + 1, unknown);
  }
  for (const char* word : {"allOf", "anyOf", "oneOf"}) {
    for (const json::value& below : array_or_empty(object, word)) collect(below, depth + 1, unknown);
  }
  for (const auto& [name, below] : object_or_empty(object, "properties")) collect(below, depth + 1, unknown);
}

}  // namespace

std::vector<std::string> warn_formats(const json::object& definition) {
  std::set<std::string> unknown;
  for_each_object(
      object_or_empty(definition, "spec"), "versions", [&](std::size_t, const json::object& version) {
        if (const json::value* schema = object_or_empty(version, "schema").if_contains("openAPIV3Schema"))
          collect(*schema, 0, unknown);
      });
  std::vector<std::string> out;
  for (const std::string& format : unknown)
    out.push_back("unrecognized format " + to_json(json::value(format)));
  return out;
}

}  // namespace orchestra::api
