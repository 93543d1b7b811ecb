// Store keys of objects: see store_key.hpp.
#include "apiserver/store_key.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::string_view kObjects = "/orchestra/objects/";
constexpr std::string_view kAllocations = "/orchestra/allocations/";

std::string prefix_of(const TypePlace& type, std::string_view ns) {
  std::string prefix(kObjects);
  prefix += type.group.empty() ? std::string_view("core") : std::string_view(type.group);
  prefix += '/';
  prefix += type.resource;
  prefix += '/';
  if (!ns.empty()) {
    prefix += ns;
    prefix += '/';
  }
  return prefix;
}
}  // namespace

std::string object_key(const TypePlace& type, std::string_view ns, std::string_view name) {
  std::string key = prefix_of(type, ns.empty() ? std::string_view("-") : ns);
  key += name;
  return key;
}

KeyRange objects_range(const TypePlace& type, std::string_view ns) { return KeyPrefix(prefix_of(type, ns)); }

std::string_view key_tail(std::string_view key, const TypePlace& type, std::string_view ns) {
  const std::size_t length = prefix_of(type, ns).size();
  return key.size() < length ? std::string_view() : key.substr(length);
}

std::string allocation_key(std::string_view pool, std::string_view what) {
  std::string key(kAllocations);
  key += pool;
  key += '/';
  key += what;
  return key;
}

}  // namespace orchestra::apiserver
