# The builtin schemas: src/api/types/*.types -> generated/api/builtin_schemas.cpp, by a small program of ours.
add_executable(orc_types_generator ${CMAKE_SOURCE_DIR}/src/api/generator/main.cpp)
set_target_properties(orc_types_generator PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tools)
file(GLOB api_types CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/api/types/*.types)
set(api_schemas ${CMAKE_BINARY_DIR}/generated/api/builtin_schemas.cpp)
add_custom_command(
  OUTPUT ${api_schemas}
  COMMAND orc_types_generator ${api_schemas} ${api_types}
  DEPENDS orc_types_generator ${api_types}
  COMMENT "Generating the builtin API schemas")
target_sources(orc_api PRIVATE ${api_schemas})
# Regular expressions of CEL and of custom schemas: linear in the text, whatever the pattern.
# Linked by name: the flags of its pkg-config file would reach every object.
find_library(RE2_LIBRARY re2 REQUIRED)
set(ORCHESTRA_AREA_LINK re2)


# Compiled together where no names of anonymous namespaces meet: the headers are read once for each group.
# A file that is in no group is compiled alone.
set_target_properties(orc_api PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
set_source_files_properties(
  ${CMAKE_SOURCE_DIR}/src/api/cells_core.cpp
  ${CMAKE_SOURCE_DIR}/src/api/cells_workloads.cpp
  ${CMAKE_SOURCE_DIR}/src/api/openapi.cpp
  ${CMAKE_SOURCE_DIR}/src/api/protobuf.cpp
  ${CMAKE_SOURCE_DIR}/src/api/registry.cpp
  ${CMAKE_SOURCE_DIR}/src/api/selector.cpp
  ${CMAKE_SOURCE_DIR}/src/api/status.cpp
  ${CMAKE_SOURCE_DIR}/src/api/strategic_patch.cpp
  ${CMAKE_SOURCE_DIR}/src/api/validate_network.cpp
  ${CMAKE_SOURCE_DIR}/src/api/validate_policy.cpp
  ${CMAKE_SOURCE_DIR}/src/api/validate_workloads.cpp
  ${CMAKE_SOURCE_DIR}/src/api/versions.cpp
  PROPERTIES UNITY_GROUP api_0)
set_source_files_properties(
  ${CMAKE_SOURCE_DIR}/src/api/apply/ownership.cpp
  ${CMAKE_SOURCE_DIR}/src/api/apply/typed.cpp
  ${CMAKE_SOURCE_DIR}/src/api/cells_more.cpp
  ${CMAKE_SOURCE_DIR}/src/api/crd/definition.cpp
  ${CMAKE_SOURCE_DIR}/src/api/crd/structural.cpp
  ${CMAKE_SOURCE_DIR}/src/api/crd/value_rules.cpp
  ${CMAKE_SOURCE_DIR}/src/api/default_hooks.cpp
  ${CMAKE_SOURCE_DIR}/src/api/object.cpp
  ${CMAKE_SOURCE_DIR}/src/api/openapi_schema.cpp
  ${CMAKE_SOURCE_DIR}/src/api/patches.cpp
  ${CMAKE_SOURCE_DIR}/src/api/prune.cpp
  ${CMAKE_SOURCE_DIR}/src/api/validate_pod.cpp
  PROPERTIES UNITY_GROUP api_1)
set_source_files_properties(
  ${CMAKE_SOURCE_DIR}/src/api/apply/field_set.cpp
  ${CMAKE_SOURCE_DIR}/src/api/cells_network.cpp
  ${CMAKE_SOURCE_DIR}/src/api/crd/definition_rules.cpp
  ${CMAKE_SOURCE_DIR}/src/api/crd/schema_builder.cpp
  ${CMAKE_SOURCE_DIR}/src/api/discovery.cpp
  ${CMAKE_SOURCE_DIR}/src/api/field_error.cpp
  ${CMAKE_SOURCE_DIR}/src/api/meta.cpp
  ${CMAKE_SOURCE_DIR}/src/api/names.cpp
  ${CMAKE_SOURCE_DIR}/src/api/quantity.cpp
  ${CMAKE_SOURCE_DIR}/src/api/time_format.cpp
  ${CMAKE_SOURCE_DIR}/src/api/validate_container.cpp
  ${CMAKE_SOURCE_DIR}/src/api/validate_core.cpp
  PROPERTIES UNITY_GROUP api_2)
set_source_files_properties(
  ${CMAKE_SOURCE_DIR}/src/api/apply/managed_fields.cpp
  ${CMAKE_SOURCE_DIR}/src/api/content.cpp
  ${CMAKE_SOURCE_DIR}/src/api/crd/path_cell.cpp
  ${CMAKE_SOURCE_DIR}/src/api/defaults.cpp
  ${CMAKE_SOURCE_DIR}/src/api/kinds.cpp
  ${CMAKE_SOURCE_DIR}/src/api/openapi_protobuf.cpp
  ${CMAKE_SOURCE_DIR}/src/api/prepare.cpp
  ${CMAKE_SOURCE_DIR}/src/api/resolv_conf.cpp
  ${CMAKE_SOURCE_DIR}/src/api/schema.cpp
  ${CMAKE_SOURCE_DIR}/src/api/table.cpp
  ${CMAKE_SOURCE_DIR}/src/api/type_registry.cpp
  ${CMAKE_SOURCE_DIR}/src/api/validate.cpp
  PROPERTIES UNITY_GROUP api_3)
set_source_files_properties(
  ${CMAKE_SOURCE_DIR}/src/api/computed.cpp
  ${CMAKE_SOURCE_DIR}/src/api/validate_hook.cpp
  PROPERTIES UNITY_GROUP api_4)
