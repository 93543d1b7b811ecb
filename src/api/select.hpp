#pragma once
// Selectors against trees and type records: the helpers between orchestra/selector.hpp and requests.
#include "api/types.hpp"
#include "orchestra/selector.hpp"

namespace orchestra::api {

/// Parses and checks that the type knows each field: else a 400 `field label not supported: x`.
ORC_API Result<FieldSelector> parse_field_selector(const TypeRecord& record, std::string_view text);
/// Parses; a malformed one is a 400 Status.
ORC_API Result<Selector> parse_label_selector(std::string_view text);
/// The value of a selectable field, as the selector compares it.
ORC_API std::string field_value(const TypeRecord& record, const json::value& object, std::string_view field);
ORC_API bool matches(const TypeRecord& record, const FieldSelector& selector, const json::value& object);
ORC_API std::map<std::string, std::string> labels_of(const json::value& object);
/// From a metav1.LabelSelector in a tree.
ORC_API Result<Selector> selector_of(const json::value* label_selector);

}  // namespace orchestra::api
