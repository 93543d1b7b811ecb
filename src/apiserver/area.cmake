# SPDY header blocks are zlib streams with a preset dictionary; log and list answers may be gzip.
find_package(ZLIB REQUIRED)
set(ORCHESTRA_AREA_LINK ZLIB::ZLIB)

# Compiled together where no names of anonymous namespaces meet: the headers are read once for each group.
# A file that is in no group is compiled alone.
set_target_properties(orc_apiserver PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
set_source_files_properties(
  ${CMAKE_SOURCE_DIR}/src/apiserver/client_remote.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/core.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/encode.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/hooks_network.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/hooks_reviews.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/hooks_subresources.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/http_front.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/type_source.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/watch_cursor.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/watch_stream.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/write_read.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/write_update.cpp
  PROPERTIES UNITY_GROUP apiserver_0)
set_source_files_properties(
  ${CMAKE_SOURCE_DIR}/src/apiserver/api_server.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/call.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/client_in_process.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/hooks_workloads.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/http_documents.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/list_query.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/request_path.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/stored_object.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/view.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/write_create.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/write_delete.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/write_ownership.cpp
  PROPERTIES UNITY_GROUP apiserver_1)
set_source_files_properties(
  ${CMAKE_SOURCE_DIR}/src/apiserver/client.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/client_request.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/gzip.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/kubeconfig.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/object_cache.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/reads.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/request_metrics.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/service_range.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/store_key.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/text.cpp
  PROPERTIES UNITY_GROUP apiserver_2)
set_source_files_properties(
  ${CMAKE_SOURCE_DIR}/src/apiserver/continue_token.cpp
  ${CMAKE_SOURCE_DIR}/src/apiserver/hooks_bootstrap.cpp
  PROPERTIES UNITY_GROUP apiserver_3)
