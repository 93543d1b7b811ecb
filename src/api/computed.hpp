#pragma once
// Kinds that are computed when they are asked for and never stored.
#include <optional>

#include "api/types.hpp"

namespace orchestra::api {

struct ComputeInput {
  bool store_healthy = true;
};
/// The objects of a computed builtin kind; nullopt where a component has to be asked.
ORC_API std::optional<json::array> compute_objects(const TypeRecord& type, const ComputeInput& input);

}  // namespace orchestra::api
