#pragma once
// JSON texts and trees beyond what base/json.hpp has: one pass that also tells of duplicate keys, printing
// behind a text, comparing.
#include "base/json.hpp"

namespace orchestra {

/// A text in one pass: its tree, and what the tree does not show.
struct JsonDocument {
  json::value tree;
  std::vector<std::string> duplicates;  ///< as of find_duplicate_keys
  bool has_doubles = false;             ///< some number has a fraction, an exponent or more than 64 bits
};
ORC_API Result<JsonDocument> read_json(std::string_view text, json::storage_ptr storage = {});

/// a == b, faster where members of objects stand in the same order, as most often.
ORC_API bool same_json(const json::value& a, const json::value& b);
ORC_API bool same_json(const json::object& a, const json::object& b);

/// No character of it is escaped; of texts beyond ASCII this may say no.
ORC_API bool prints_plainly(std::string_view text);
/// to_json behind what `out` holds; print_quoted: of a text.
ORC_API void print_json(std::string& out, const json::value& value);
ORC_API void print_quoted(std::string& out, std::string_view text);

}  // namespace orchestra
