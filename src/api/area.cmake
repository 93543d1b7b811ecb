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
