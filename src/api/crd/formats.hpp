#pragma once
// Formats of strings that a definition names and nothing checks: the warnings of a write of it.
#include <boost/json.hpp>
#include <string>
#include <vector>

namespace orchestra::api {

/// `unrecognized format "x"` for each format of a string in the schemas of a definition, once.
std::vector<std::string> warn_formats(const boost::json::object& definition);

}  // namespace orchestra::api
