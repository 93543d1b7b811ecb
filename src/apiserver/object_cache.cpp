// The caches of what was made of stored versions: see object_cache.hpp.
#include "apiserver/object_cache.hpp"

#include "api/object_parts.hpp"
#include "api/versions.hpp"
#include "apiserver/stored_object.hpp"

namespace orchestra::apiserver {

Result<Object> ObjectCache::get(const Value& stored, Revision revision) {
  const Key key{stored.bytes().data(), revision};
  if (auto found = objects_.find(key, &Entry::object)) return std::move(*found);
  ORC_ASSIGN(StoredView view, decode_stored_frame(stored.bytes()));
  ORC_ASSIGN(Object object, object_from_canonical(json_with_revision(view, revision)));
  objects_.keep(key, {stored, object}, stored.size());
  return object;
}

Result<Object> ObjectCache::get(const Value& stored, Revision revision, const json::value& written) {
  auto tree = canonical_tree(written, revision);
  if (!tree) return get(stored, revision);
  ORC_ASSIGN(const StoredView view, decode_stored_frame(stored.bytes()));
  Object object = object_from_parts(std::move(*tree), json_with_revision(view, revision));
  objects_.keep({stored.bytes().data(), revision}, {stored, object}, stored.size());
  return object;
}

bool EventTexts::keeps(const api::TypeRecord& type, std::string_view version, const Representation& want) {
  if (want.form == Form::table) return false;
  if (want.form != Form::json || want.protobuf) return true;
  const api::TypeVersion* found = type.version(version);
  return found != nullptr && !api::stored_as(type, *found);
}

}  // namespace orchestra::apiserver
