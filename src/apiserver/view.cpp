// Views and changes: see view.hpp.
#include "apiserver/view.hpp"

#include "api/meta.hpp"
#include "api/select.hpp"

namespace orchestra::apiserver {

Result<json::value> Loaded::tree(const json::storage_ptr& memory) const {
  ORC_ASSIGN(json::value tree, bare_tree(memory));
  ORC_ASSIGN(json::value managed, managed_fields(memory));
  if (!managed.is_null()) api::metadata(tree)["managedFields"] = std::move(managed);
  return tree;
}

Result<json::value> Loaded::bare_tree(const json::storage_ptr& memory) const {
  ORC_ASSIGN(json::value tree, parse_json(view.json, memory));
  api::metadata(tree)["resourceVersion"] = std::to_string(kv.mod_revision);
  return tree;
}

Result<json::value> Loaded::managed_fields(const json::storage_ptr& memory) const {
  if (view.managed_fields.empty()) return json::value(memory);
  return parse_json(view.managed_fields, memory);
}

Result<std::optional<KeyValue>> View::get(const std::string& key) const {
  ORC_ASSIGN(RangeResult found, snapshot_.try_range(Key(key)));
  if (found.items.empty()) return std::optional<KeyValue>();
  return std::optional<KeyValue>(std::move(found.items.front()));
}

Result<std::optional<Loaded>> View::load(const std::string& key) const {
  ORC_ASSIGN(std::optional<KeyValue> kv, get(key));
  if (!kv) return std::optional<Loaded>();
  auto view = decode_stored(kv->value.bytes());
  if (!view) return view.error().with_context(key);
  return std::optional<Loaded>(Loaded{std::move(*kv), std::move(*view)});
}

Result<std::vector<KeyValue>> View::range(const KeyRange& range, std::size_t limit) const {
  RangeOptions options;
  options.limit = limit;
  ORC_ASSIGN(RangeResult found, snapshot_.try_range(range, options));
  return std::move(found.items);
}

TypePlace place_of(const api::TypeRecord& type) {
  if (!type.storage_plural.empty()) return {type.storage_group, type.storage_plural};
  return {type.group, type.plural};
}

std::string key_of(const api::TypeRecord& type, std::string_view ns, std::string_view name) {
  return object_key(place_of(type), type.namespaced ? ns : std::string_view(), name);
}

std::string encode_object(const api::TypeRecord& type, const json::value& tree,
                          std::optional<std::string_view> managed) {
  std::vector<std::pair<std::string, std::string>> fields;
  fields.reserve(type.selectable.size());
  for (const api::SelectableField& field : type.selectable) {
    // The place of another type's objects: its labels of these fields are what its readers ask for.
    const std::string& label = field.stored.empty() ? field.label : field.stored;
    fields.emplace_back(label, api::field_value(type, tree, field.label));
  }
  if (string_at(tree, "/apiVersion") == type.stored_api_version())
    return encode_stored(tree, fields, managed);
  json::value stored = tree;
  stored.get_object()["apiVersion"] = type.stored_api_version();
  return encode_stored(stored, fields, managed);
}

void Change::put(std::string key, Value value) {
  TxnOp op;
  op.type = TxnOp::Type::put;
  op.range = Key(std::move(key));
  op.value = std::move(value);
  ops.push_back(std::move(op));
}
void Change::remove(std::string key) {
  TxnOp op;
  op.type = TxnOp::Type::remove;
  op.range = Key(std::move(key));
  ops.push_back(std::move(op));
}
void Change::expect(const std::string& key, const std::optional<KeyValue>& seen) {
  Compare compare;
  compare.range = Key(key);
  compare.target = Compare::Target::mod;
  compare.op = Compare::Op::equal;
  compare.number = seen ? seen->mod_revision : 0;
  compares.push_back(std::move(compare));
}

}  // namespace orchestra::apiserver
