#pragma once
// Small text codecs that URLs, kubeconfigs and tokens need: percent-encoding, base64, query strings.
//
// Input comes from outside: each function bounds what it reads and answers nullopt instead of guessing.
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/error.hpp"

namespace orchestra::apiserver {

/// Percent-decoding; `plus_is_space` for query strings. nullopt for a broken escape.
std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space);
std::string percent_encode(std::string_view text);

std::string base64_encode(std::string_view bytes);
/// RFC 4648 section 5 without padding.
std::string base64url_encode(std::string_view bytes);
/// Accepts both alphabets, with or without padding; white space is an error.
std::optional<std::string> base64_decode(std::string_view text);

/// Query parameters in order; repeated names keep all values.
using Query = std::multimap<std::string, std::string>;
/// At most 1,000 parameters; broken escapes are an error.
std::optional<Query> parse_query(std::string_view text);
/// The first value of `name`, or empty.
std::string query_value(const Query& query, const std::string& name);
/// Go's strconv.ParseBool plus the empty value of `?watch`: "1", "t", "TRUE", "True" are true. A name
/// that is present without a value is true.
bool query_flag(const Query& query, const std::string& name);

std::vector<std::string> split(std::string_view text, char separator);
std::string_view trim(std::string_view text);
std::string to_lower(std::string_view text);

/// "2026-11-23T15:04:05Z"
std::string rfc3339_seconds(std::int64_t wall_ns);

}  // namespace orchestra::apiserver
