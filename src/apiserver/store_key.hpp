#pragma once
// Where an object lies in the store: /orchestra/objects/GROUP/RESOURCE/NAMESPACE/NAME.
//
// "core" stands for the empty group, "-" for cluster scope, so every key has the same number of parts.
// The order of a list is the byte order of these keys. Keys that are not objects (allocations of
// addresses and ports) lie below /orchestra/allocations/.
#include <string>
#include <string_view>

#include "orchestra/state_store.hpp"

namespace orchestra::apiserver {

struct TypePlace {
  std::string group, resource;
};

std::string object_key(const TypePlace& type, std::string_view ns, std::string_view name);
/// All objects of a type; of one namespace if `ns` is not empty.
KeyRange objects_range(const TypePlace& type, std::string_view ns);
/// The part of `key` behind the prefix of objects_range(type, ns).
std::string_view key_tail(std::string_view key, const TypePlace& type, std::string_view ns);
std::string allocation_key(std::string_view pool, std::string_view what);

}  // namespace orchestra::apiserver
