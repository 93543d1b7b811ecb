#pragma once
// CustomResourceDefinitions: what is wrong with one, which type record it makes, and what its status says.
//
// All pure; the shell (src/apiserver/type_source) watches the definitions, puts the records into the
// registry and writes the status. apiextensions-apiserver: validation.go, naming_controller.go,
// crd_finalizer.go, helpers.go.
#include <memory>
#include <vector>

#include "api/types.hpp"
#include "orchestra/env.hpp"
#include "orchestra/result.hpp"

namespace orchestra::api {

inline constexpr const char* kDefinitionFinalizer = "customresourcecleanup.apiextensions.k8s.io";

/// Rules of a create or update of a definition (hooks of its kind).
void validate_definition(const json::object& object, FieldErrors& errors);
void validate_definition_update(const json::object& object, const json::object& old, FieldErrors& errors);
void prepare_definition(json::object& object);

/// The record of a valid definition. Shared pools live as long as the record. `converter`: of its conversion
/// strategy, null for None.
Result<TypePtr> record_of_definition(const json::value& definition,
                                     std::shared_ptr<const ObjectConverter> converter = nullptr);

/// Decides on one definition in the light of what others have taken.
struct DefinitionDecision {
  bool served = false;    ///< its names are its own: the type exists
  bool removing = false;  ///< its objects have to go, then the finalizer
  json::value object;     ///< with the new status; null where nothing changes
};
DefinitionDecision judge_definition(const json::value& definition, const TypeRegistry& others, Now now);

/// The APIService object of one served group version: Local, Available.
json::value api_service_of(const TypeRegistry& registry, std::string_view group, std::string_view version,
                           Now now);

}  // namespace orchestra::api
