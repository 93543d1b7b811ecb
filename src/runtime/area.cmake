# The static program behind every container (orch-shim, orch-init), embedded into the library as bytes.
#
# It has no C library and is compiled by itself, without the flags of the build (sanitizers, coverage).
file(GLOB shim_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/src/runtime/freestanding/*.cpp)
file(GLOB shim_headers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/src/runtime/freestanding/*.hpp
     ${CMAKE_CURRENT_SOURCE_DIR}/src/runtime/wire/*.hpp)
set(shim_program ${CMAKE_BINARY_DIR}/generated/runtime/orch-shim)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/generated/runtime)
add_custom_command(
  OUTPUT ${shim_program}
  COMMAND ${CMAKE_CXX_COMPILER} -std=c++20 -Os -Wall -Wextra -Wno-missing-field-initializers -ffreestanding
          -fno-exceptions -fno-rtti -fno-stack-protector -fno-threadsafe-statics -fno-asynchronous-unwind-tables
          -fno-pic -no-pie -static -nostdlib -ffunction-sections -fdata-sections
          -Wl,--gc-sections,--build-id=none,-z,noexecstack -s -o ${shim_program} ${shim_sources}
  DEPENDS ${shim_sources} ${shim_headers}
  COMMENT "Building orch-shim, the static program embedded into the library"
  VERBATIM)
set_source_files_properties(${CMAKE_CURRENT_SOURCE_DIR}/src/runtime/shim/embedded_shim.cpp PROPERTIES
  OBJECT_DEPENDS ${shim_program}
  COMPILE_DEFINITIONS "ORCHESTRA_SHIM_PROGRAM=\"${shim_program}\"")
set(ORCHESTRA_AREA_LINK seccomp)
