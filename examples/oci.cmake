# orchestra-oci is base and runtime only: one container costs three to five starts of it, so neither OpenSSL
# nor anything else may be loaded that it does not call. Where the archives of its few libraries are there it
# is linked statically: resolving C++ symbols at every start costs more than the rest of the start together.
if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/cli/oci_main.cpp)
  add_executable(orchestra-oci cli/oci_main.cpp)
  find_library(ORCHESTRA_BOOST_JSON_ARCHIVE libboost_json.a)
  find_library(ORCHESTRA_SECCOMP_ARCHIVE libseccomp.a)
  find_library(ORCHESTRA_Z_ARCHIVE libz.a)
  if(ORCHESTRA_BOOST_JSON_ARCHIVE AND ORCHESTRA_SECCOMP_ARCHIVE AND ORCHESTRA_Z_ARCHIVE AND NOT ORCHESTRA_SANITIZE)
    add_library(orc_oci_parts STATIC $<TARGET_OBJECTS:orc_base> $<TARGET_OBJECTS:orc_runtime>)
    target_include_directories(orchestra-oci PRIVATE ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src)
    target_link_libraries(orchestra-oci PRIVATE orc_oci_parts ${ORCHESTRA_BOOST_JSON_ARCHIVE}
                          ${ORCHESTRA_SECCOMP_ARCHIVE} ${ORCHESTRA_Z_ARCHIVE})
    target_link_options(orchestra-oci PRIVATE -static -no-pie -Wl,--gc-sections)
  else()
    target_link_libraries(orchestra-oci PRIVATE orchestra_internal)
    target_link_options(orchestra-oci PRIVATE -Wl,--as-needed,--gc-sections)
  endif()
endif()
