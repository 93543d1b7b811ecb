# orchestra-oci takes from the archive only what the runtime area needs: one container costs three to five
# starts of it, so neither OpenSSL nor anything else may be loaded that it does not call.
if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/cli/oci_main.cpp)
  add_executable(orchestra-oci cli/oci_main.cpp)
  target_link_libraries(orchestra-oci PRIVATE orchestra_internal)
  target_link_options(orchestra-oci PRIVATE -Wl,--as-needed,--gc-sections)
endif()
