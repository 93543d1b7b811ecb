#pragma once
// Request paths in one form, so that what is matched is what the backend sees. Pure.
//
// "/a//b/../c%2fd%41" and "/a/c%2fdA" must not be two paths to the proxy and one to the pod (or the other
// way round): that is how access rules are walked around. Only unreserved characters are decoded (RFC 3986
// section 2.3), dot segments resolved, double slashes merged; %2F stays encoded.
#include <optional>
#include <string>
#include <string_view>

namespace orchestra::ingress {

/// nullopt for a broken escape, %00, or dots that climb above the root. "*" stays as it is.
std::optional<std::string> normalize_path(std::string_view path);

/// A request target: origin form, absolute form, or "*".
struct Target {
  std::string path;       ///< normalized
  std::string query;      ///< with its "?", or empty
  std::string authority;  ///< of the absolute form: takes the place of Host
  std::string text() const { return path + query; }
};
std::optional<Target> read_target(std::string_view target);

/// Host without port, lower case, without a final dot.
std::string host_name(std::string_view host_field);

}  // namespace orchestra::ingress
