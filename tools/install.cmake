# cmake --install: library, headers, programs, package files for find_package(Orchestra) and pkg-config, the
# Python package.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
install(TARGETS orchestra_shared EXPORT OrchestraTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS orchestra_static ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/orchestra DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(TARGET orchestra)
  install(TARGETS orchestra DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
if(TARGET orchestra-oci)
  install(TARGETS orchestra-oci DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
if(EXISTS ${CMAKE_SOURCE_DIR}/bindings/python/orchestra)
  install(DIRECTORY bindings/python/orchestra DESTINATION ${CMAKE_INSTALL_LIBDIR}/python3/dist-packages PATTERN __pycache__ EXCLUDE)
endif()
install(EXPORT OrchestraTargets NAMESPACE Orchestra:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Orchestra)
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/OrchestraConfig.cmake CONTENT
"# Targets: Orchestra::shared (liborchestra.so; public headers need C++20 and nothing else).
include(\"\${CMAKE_CURRENT_LIST_DIR}/OrchestraTargets.cmake\")
if(NOT TARGET Orchestra::orchestra)
  add_library(Orchestra::orchestra ALIAS Orchestra::shared)
endif()
" @ONLY)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/OrchestraConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/OrchestraConfig.cmake ${CMAKE_BINARY_DIR}/OrchestraConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Orchestra)
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/orchestra.pc CONTENT
"prefix=${CMAKE_INSTALL_PREFIX}
libdir=\${prefix}/${CMAKE_INSTALL_LIBDIR}
includedir=\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}

Name: orchestra
Description: Container orchestration as a library
Version: ${PROJECT_VERSION}
Libs: -L\${libdir} -lorchestra
Cflags: -I\${includedir}
")
install(FILES ${CMAKE_BINARY_DIR}/orchestra.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
