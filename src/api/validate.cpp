// Validation: what the schema says, then the rules of each message, then those of the kind.
#include <algorithm>
#include <optional>

#include "api/crd/expressions.hpp"
#include "api/crd/value_rules.hpp"
#include "api/meta.hpp"
#include "api/schema_marks.hpp"
#include "api/type_hooks.hpp"
#include "api/walk.hpp"
#include "api/walker.hpp"
#include "base/json_text.hpp"

namespace orchestra::api {
namespace {

bool is_empty(const json::value* value) {
  if (value == nullptr || value->is_null()) return true;
  if (value->is_string()) return value->get_string().empty();
  if (value->is_array()) return value->get_array().empty();
  return false;
}

class ValidateVisitor {
 public:
  ValidateVisitor(FieldErrors& errors, const json::value* old) : errors_(errors), old_(old) {}

  void member(std::string_view name) { old_.member(name); }
  void item(SchemaRef list, const json::value& item) { old_.item(list, item); }
  void leave() { old_.leave(); }

  bool enter(SchemaRef schema, const json::value& value, const FieldPath& path) {
    // What a custom object had already stays, even where the definition has become stricter.
    if (old_.current() != nullptr && schema.has(SchemaNode::custom) && *old_.current() == value) return false;
    if (schema.kind() == SchemaKind::object && value.is_object()) {
      for_each_marked(schema, Mark::non_empty, [&](SchemaRef property) {
        if (is_empty(value.get_object().if_contains(property.name())))
          errors_.required(path / property.name());
      });
      if (schema.hook() != TypeHook::none)
        run_validate_hook(schema.hook(), value.get_object(), path, errors_);
      if (schema.has(SchemaNode::embedded)) validate_embedded_resource(value.get_object(), path, errors_);
    }
    if (schema.node().words != 0 && !schema.enum_values().empty() && !schema.has(SchemaNode::judged))
      check_enum(schema, value, path);
    if (const json::object* rules = schema.rules()) check_value(*rules, value, path, errors_);
    return true;
  }
  bool unknown(const FieldPath&) { return false; }
  bool absent(SchemaRef, const json::value&) { return false; }

 private:
  void check_enum(SchemaRef schema, const json::value& value, const FieldPath& path) {
    if (value.is_array()) {
      std::size_t index = 0;
      for (const json::value& item : value.get_array()) check_word(schema, item, path[index++]);
      return;
    }
    check_word(schema, value, path);
  }
  void check_word(SchemaRef schema, const json::value& value, const FieldPath& path) {
    if (!value.is_string()) return;
    const std::string_view text = value.get_string();
    // Absent to Go; whether something must be there is the business of non_empty.
    if (text.empty()) return;
    const std::string_view words = schema.enum_values();
    for (std::size_t begin = 0; begin < words.size();) {
      const std::size_t end = std::min(words.find('|', begin), words.size());
      if (words.substr(begin, end - begin) == text) return;
      begin = end + 1;
    }
    errors_.not_supported(path, value, split_words(words, '|'));
  }
  FieldErrors& errors_;
  OldValues old_;
};

/// Of a custom type: expressions are judged where the rest of the schema holds.
void check_expressions_of(const TypeRecord& record, SchemaRef schema, const json::value& object,
                          const json::value* old, FieldErrors& errors) {
  if (record.builtin || !schema || !schema.pool()->has_expressions) return;
  const bool blocked = std::any_of(errors.begin(), errors.end(), [](const FieldError& error) {
    return error.type == FieldErrorType::not_supported || error.type == FieldErrorType::required ||
           error.type == FieldErrorType::too_long || error.type == FieldErrorType::too_many ||
           error.type == FieldErrorType::type_invalid;
  });
  if (!blocked) return validate_expressions(schema, object, old, errors);
  errors.add(
      {FieldErrorType::invalid, "<nil>", "null",
       "some validation rules were not checked because the object was invalid; correct the existing errors "
       "to complete validation"});
}

bool counts_for_generation(std::string_view member) {
  return member != "metadata" && member != "status" && member != "kind" && member != "apiVersion";
}

bool covered(const json::object& a, const json::object& b) {
  for (const auto& [name, value] : a) {
    if (!counts_for_generation(name)) continue;
    const json::value* other = b.if_contains(name);
    if (other == nullptr || !same_json(*other, value)) return false;
  }
  return true;
}

// A StatefulSet's claims are volumes of its pods. While it is validated they stand among the volumes of its
// template, so that the mounts that name them are found.
std::optional<json::value> with_claim_volumes(const TypeRecord& record, const json::value& object) {
  const json::array* claims =
      record.kind == "StatefulSet" ? array_at(object, "/spec/volumeClaimTemplates") : nullptr;
  if (claims == nullptr || claims->empty() || orchestra::object_at(object, "/spec/template/spec") == nullptr)
    return std::nullopt;
  json::value copy = object;
  json::array volumes;
  if (const json::array* own = array_at(object, "/spec/template/spec/volumes")) volumes = *own;
  const std::size_t own_count = volumes.size();
  for (const json::value& claim : *claims) {
    const std::string name = string_at(claim, "/metadata/name");
    const auto taken =
        std::find_if(volumes.begin(), volumes.begin() + static_cast<std::ptrdiff_t>(own_count),
                     [&](const json::value& volume) { return string_at(volume, "/name") == name; });
    if (name.empty() || taken != volumes.begin() + static_cast<std::ptrdiff_t>(own_count)) continue;
    volumes.push_back(json::object{{"name", name}, {"emptyDir", json::object()}});
  }
  set_at(copy, "/spec/template/spec/volumes", std::move(volumes));
  return copy;
}

}  // namespace

void validate_schema(SchemaRef schema, const json::value& value, FieldErrors& errors) {
  validate_schema(schema, value, FieldPath(), errors);
}

void validate_schema(SchemaRef schema, const json::value& value, const FieldPath& path, FieldErrors& errors) {
  ValidateVisitor visitor(errors, nullptr);
  walk(schema, value, path, visitor);
}

FieldErrors validate_object(const TypeRecord& record, SchemaRef schema, const json::value& object,
                            const json::value* old) {
  FieldErrors errors;
  if (!object.is_object()) {
    errors.type_invalid(FieldPath(), object, "must be an object");
    return errors;
  }
  if (!record.virtual_only) validate_metadata(record, object.get_object(), errors);
  if (schema) {
    const std::optional<json::value> whole = with_claim_volumes(record, object);
    ValidateVisitor visitor(errors, record.builtin ? nullptr : old);
    walk(schema, whole ? *whole : object, FieldPath(), visitor);
  }
  if (record.hooks.validate != nullptr) record.hooks.validate(object.get_object(), errors);
  check_expressions_of(record, schema, object, old, errors);
  return errors;
}

namespace {
/// What an object that is stored broke already when it was stored, before there was the rule, is no reason to
/// refuse a change of something else.
FieldErrors without_old(const TypeRecord& record, SchemaRef schema, FieldErrors errors,
                        const json::value& old) {
  if (errors.empty() || !record.builtin) return errors;
  const FieldErrors before = validate_object(record, schema, old, nullptr);
  FieldErrors out;
  for (const FieldError& error : errors) {
    const bool known = std::any_of(before.begin(), before.end(), [&](const FieldError& each) {
      return each.path == error.path && each.body() == error.body();
    });
    if (!known) out.add(error);
  }
  return out;
}
}  // namespace

FieldErrors validate_create(const TypeRecord& record, SchemaRef schema, const json::value& object) {
  FieldErrors errors = validate_object(record, schema, object, nullptr);
  if (record.hooks.validate_create != nullptr && object.is_object())
    record.hooks.validate_create(object.get_object(), errors);
  return errors;
}

FieldErrors validate_update(const TypeRecord& record, SchemaRef schema, const json::value& object,
                            const json::value& old) {
  FieldErrors errors = without_old(record, schema, validate_object(record, schema, object, &old), old);
  if (!object.is_object() || !old.is_object()) return errors;
  validate_metadata_update(object.get_object(), old.get_object(), errors);
  if (record.hooks.validate_update != nullptr) {
    record.hooks.validate_update(object.get_object(), old.get_object(), errors);
  }
  return errors;
}

FieldErrors validate_status_update(const TypeRecord& record, SchemaRef schema, const json::value& object,
                                   const json::value& old) {
  FieldErrors errors;
  if (schema && !record.builtin) {
    ValidateVisitor visitor(errors, &old);
    walk(schema, object, FieldPath(), visitor);
    check_expressions_of(record, schema, object, &old, errors);
  }
  if (!object.is_object() || !old.is_object()) return errors;
  validate_metadata(record, object.get_object(), errors);
  validate_metadata_update(object.get_object(), old.get_object(), errors);
  if (record.hooks.validate_status_update != nullptr) {
    record.hooks.validate_status_update(object.get_object(), old.get_object(), errors);
  }
  return errors;
}

bool spec_differs(const json::object& a, const json::object& b) {
  const bool some_went = std::any_of(b.begin(), b.end(), [&](const auto& member) {
    return counts_for_generation(member.key()) && !a.contains(member.key());
  });
  return some_went || !covered(a, b);
}

}  // namespace orchestra::api
