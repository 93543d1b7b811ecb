#pragma once
// From a request line to what is asked: /api and /apis paths with their verbs, or a path of its own.
//
// The rules are those of upstream's RequestInfoFactory: `namespaces` is both a resource and a scope,
// `?watch` and the old /watch/ prefix turn a list into a watch, a name turns get into get and its
// absence into list. Pure; knows no resource type.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apiserver/text.hpp"

namespace orchestra::apiserver {

struct RequestInfo {
  bool is_resource = false;
  std::string method;  ///< HTTP method, empty in process
  std::string path;    ///< decoded, without the query
  std::string verb;    ///< get list watch create update patch delete deletecollection; else lower case method
  std::string group, version;
  std::string ns, resource, subresource, name;
  /// What follows the subresource (proxy paths), without a leading slash.
  std::string rest;
  Query query;
};

/// nullopt: the target is not a path that could be asked for (broken escapes, traversal): 400.
std::optional<RequestInfo> parse_request(std::string_view method, std::string_view target);

}  // namespace orchestra::apiserver
