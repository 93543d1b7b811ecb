// Definitions of custom types and field sets from outside: what passes the structural check builds a schema
// that prunes, defaults (twice is once) and validates any value; a field set prints what it read.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "api/apply/managed_fields.hpp"
#include "api/crd/definition.hpp"
#include "api/crd/schema_builder.hpp"
#include "api/crd/structural.hpp"
#include "api/walker.hpp"
#include "base/json.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra;
  using namespace orchestra::api;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  auto document = parse_json(bytes);
  if (!document || !document->is_object()) return 0;
  if (auto set = FieldSet::from_json(*document)) {
    const auto again = FieldSet::from_json(json::value(set->to_json()));
    if (!again) std::abort();
    std::string printed;
    set->print(printed);
    if (printed != to_json(set->to_json())) std::abort();
    std::string_view rest = printed;
    const auto taken = FieldSet::take_printed(rest);
    if (taken && !(rest.empty() && to_json(taken->to_json()) == printed)) std::abort();
  }
  (void)read_managers_text(bytes);
  if (auto managers = read_managers(*document)) {
    const auto again = read_managers_text(managers_text(*managers));
    if (!again || !same_but_times(*again, *managers)) std::abort();
  }
  FieldErrors errors;
  check_structural(document->get_object(), FieldPath("schema"), errors);
  FieldErrors more;
  validate_definition(document->get_object(), more);
  if (!errors.empty()) return 0;
  const auto schema = build_schema(*document, "com.example.v1.Fuzz");
  json::value object = *document;
  (void)prune_unknown(schema->root(), object);
  apply_defaults(schema->root(), object);
  const std::string once = to_json(object);
  apply_defaults(schema->root(), object);
  if (to_json(object) != once) std::abort();
  FieldErrors found;
  validate_schema(schema->root(), object, found);
  const json::value nothing = json::object();
  (void)fields_of(schema->root(), object);
  (void)compare_fields(schema->root(), nothing, object);
  (void)merge_fields(schema->root(), object, object);
  return 0;
}
