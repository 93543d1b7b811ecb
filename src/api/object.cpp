// Object: canonical bytes, the header that is read from them once, and the decoded tree shared by readers.
//
// The bytes are what is stored and sent; the header (names, labels, owners) is what selectors, indexes and
// reconcilers read most; the tree is for code that reads many fields. Both are read once, at construction,
// and never change, so readers on any thread need no lock.
#include "orchestra/object.hpp"

#include "api/object_memo.hpp"
#include "api/object_parts.hpp"
#include "api/object_tree.hpp"
#include "base/assert.hpp"
#include "base/yaml.hpp"

namespace orchestra {

struct Object::Data {
  std::string json;
  std::string api_version, kind, name, ns, uid, resource_version;
  std::int64_t generation = 0;
  std::map<std::string, std::string> labels, annotations;
  std::vector<OwnerReference> owners;
  std::vector<std::string> finalizers;
  bool deleting = false;
  json::value tree;
  mutable std::atomic<std::uint32_t> memo = 0;
};

namespace {

std::string text_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

bool flag_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_bool() && value->get_bool();
}

std::map<std::string, std::string> text_map(const json::object& object, std::string_view key) {
  std::map<std::string, std::string> result;
  const json::value* value = object.if_contains(key);
  if (value == nullptr || !value->is_object()) return result;
  for (const auto& [name, text] : value->get_object()) {
    if (text.is_string()) result.emplace(std::string(name), std::string(text.get_string()));
  }
  return result;
}

void read_owners(const json::object& meta, std::vector<OwnerReference>& owners) {
  const json::value* list = meta.if_contains("ownerReferences");
  if (list == nullptr || !list->is_array()) return;
  for (const json::value& entry : list->get_array()) {
    if (!entry.is_object()) continue;
    const json::object& owner = entry.get_object();
    owners.push_back({.api_version = text_of(owner, "apiVersion"),
                      .kind = text_of(owner, "kind"),
                      .name = text_of(owner, "name"),
                      .uid = text_of(owner, "uid"),
                      .controller = flag_of(owner, "controller"),
                      .block_owner_deletion = flag_of(owner, "blockOwnerDeletion")});
  }
}

void read_header(const json::object& root, Object::Data& data) {
  data.api_version = text_of(root, "apiVersion");
  data.kind = text_of(root, "kind");
  const json::value* meta_value = root.if_contains("metadata");
  if (meta_value == nullptr || !meta_value->is_object()) return;
  const json::object& meta = meta_value->get_object();
  data.name = text_of(meta, "name");
  data.ns = text_of(meta, "namespace");
  data.uid = text_of(meta, "uid");
  data.resource_version = text_of(meta, "resourceVersion");
  if (const json::value* generation = meta.if_contains("generation"); generation && generation->is_int64()) {
    data.generation = generation->get_int64();
  }
  data.labels = text_map(meta, "labels");
  data.annotations = text_map(meta, "annotations");
  read_owners(meta, data.owners);
  if (const json::value* list = meta.if_contains("finalizers"); list != nullptr && list->is_array()) {
    for (const json::value& entry : list->get_array()) {
      if (entry.is_string()) data.finalizers.emplace_back(entry.get_string());
    }
  }
  const json::value* deletion = meta.if_contains("deletionTimestamp");
  data.deleting = deletion != nullptr && !deletion->is_null();
}

const Object::Data& empty_data() {
  static const Object::Data kEmpty;
  return kEmpty;
}

const Object::Data& data_or_empty(const Object::Data* data) { return data != nullptr ? *data : empty_data(); }

Result<Object> object_of(json::value tree) {
  if (!tree.is_object()) {
    return Error(Error::invalid, "api", "an API object must be a JSON object with apiVersion and kind");
  }
  return object_from_tree(std::move(tree));
}

}  // namespace

Result<Object> Object::from_json(std::string_view text) {
  ORC_ASSIGN(json::value parsed, parse_json(text));
  return object_of(std::move(parsed));
}

Result<Object> Object::from_yaml(std::string_view text) {
  ORC_ASSIGN(std::vector<json::value> documents, parse_yaml_documents(text));
  if (documents.size() != 1) {
    return Error(Error::invalid, "api",
                 "expected one YAML document but found " + std::to_string(documents.size()) +
                     "; read several with many_from_yaml");
  }
  return object_of(std::move(documents.front()));
}

Result<std::vector<Object>> Object::many_from_yaml(std::string_view text) {
  ORC_ASSIGN(std::vector<json::value> documents, parse_yaml_documents(text));
  std::vector<Object> objects;
  objects.reserve(documents.size());
  for (std::size_t i = 0; i < documents.size(); ++i) {
    Result<Object> object = object_of(std::move(documents[i]));
    if (!object) return object.error().with_context("document " + std::to_string(i + 1));
    // A List stands for its items, as with kubectl apply -f.
    const json::array* items = array_at(orchestra::tree(*object), "/items");
    if (items == nullptr || !object->kind().ends_with("List")) {
      objects.push_back(std::move(*object));
      continue;
    }
    for (const json::value& item : *items) {
      ORC_ASSIGN(Object one, object_of(item));
      objects.push_back(std::move(one));
    }
  }
  return objects;
}

std::string_view Object::json() const { return data_or_empty(data_.get()).json; }
std::string Object::yaml() const {
  return data_ == nullptr ? std::string() : to_yaml(orchestra::tree(*this));
}

const std::string& Object::api_version() const { return data_or_empty(data_.get()).api_version; }
const std::string& Object::kind() const { return data_or_empty(data_.get()).kind; }
const std::string& Object::name() const { return data_or_empty(data_.get()).name; }
const std::string& Object::ns() const { return data_or_empty(data_.get()).ns; }
const std::string& Object::uid() const { return data_or_empty(data_.get()).uid; }
const std::string& Object::resource_version() const { return data_or_empty(data_.get()).resource_version; }
std::int64_t Object::generation() const { return data_or_empty(data_.get()).generation; }
const std::map<std::string, std::string>& Object::labels() const { return data_or_empty(data_.get()).labels; }
const std::map<std::string, std::string>& Object::annotations() const {
  return data_or_empty(data_.get()).annotations;
}
const std::vector<OwnerReference>& Object::owners() const { return data_or_empty(data_.get()).owners; }
const std::vector<std::string>& Object::finalizers() const { return data_or_empty(data_.get()).finalizers; }
bool Object::deleting() const { return data_or_empty(data_.get()).deleting; }

const OwnerReference* Object::controller() const {
  for (const OwnerReference& owner : owners()) {
    if (owner.controller) return &owner;
  }
  return nullptr;
}

std::optional<std::string> Object::get(std::string_view pointer) const {
  const json::value* value = find(orchestra::tree(*this), pointer);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return std::string(value->get_string());
  return to_json(*value);
}

std::optional<std::int64_t> Object::get_int(std::string_view pointer) const {
  const json::value* value = find(orchestra::tree(*this), pointer);
  if (value == nullptr || !value->is_int64()) return std::nullopt;
  return value->get_int64();
}

std::optional<bool> Object::get_bool(std::string_view pointer) const {
  const json::value* value = find(orchestra::tree(*this), pointer);
  if (value == nullptr || !value->is_bool()) return std::nullopt;
  return value->get_bool();
}

Result<Object> Object::with(std::string_view pointer, std::string_view text) const {
  if (pointer.empty() || pointer.front() != '/') {
    return Error(Error::invalid, "api",
                 "\"" + std::string(pointer) + "\" is not a JSON pointer: it must start with \"/\"");
  }
  ORC_ASSIGN(json::value value, parse_json(text));
  json::value changed = data_ == nullptr ? json::value(json::object()) : orchestra::tree(*this);
  set_at(changed, pointer, std::move(value));
  return object_of(std::move(changed));
}

const json::value& tree(const Object& object) {
  static const json::value kNull;
  return object.data() == nullptr ? kNull : object.data()->tree;
}

std::atomic<std::uint32_t>* memo_of(const Object& object) {
  return object.data() == nullptr ? nullptr : &object.data()->memo;
}

Object object_from_parts(json::value tree, std::string text) {
  ORC_ASSERT(tree.is_object());
  auto data = std::make_shared<Object::Data>();
  data->json = std::move(text);
  read_header(tree.get_object(), *data);
  data->tree = std::move(tree);  // into the heap, wherever it was
  return Object(std::move(data));
}

Object object_from_tree(json::value tree) {
  std::string text = to_json(tree);
  return object_from_parts(std::move(tree), std::move(text));
}

Result<Object> object_from_canonical(std::string text) {
  ORC_ASSIGN(json::value tree, parse_json(text));
  if (!tree.is_object()) return Error(Error::invalid, "api", "an API object must be a JSON object");
  return object_from_parts(std::move(tree), std::move(text));
}

}  // namespace orchestra
