#pragma once
// Protobuf bodies (content type application/vnd.kubernetes.protobuf): requests to the tree that JSON would
// give, and answers from it.
#include "api/schema.hpp"
#include "orchestra/result.hpp"

#include <boost/json.hpp>

namespace orchestra::api {
namespace json = boost::json;

/// `k8s\0`, then runtime.Unknown whose `raw` is a message of `schema`. Malformed bytes are a 400 Status that
/// names the field. Unknown numbers are skipped. The tree is as prune_unknown() would leave it.
ORC_API Result<json::value> decode_protobuf(std::string_view bytes, SchemaRef schema,
                                            const json::storage_ptr& memory = {});
/// One message without the envelope.
ORC_API Result<json::value> decode_protobuf_message(std::string_view bytes, SchemaRef schema,
                                                    const json::storage_ptr& memory = {});

/// One message of a tree that has the form of JSON. Fields that the schema has no number for are left out; a
/// value of the wrong type is `invalid`.
ORC_API Result<std::string> encode_protobuf_message(const json::value& tree, SchemaRef schema);
/// `k8s\0` and runtime.Unknown around a message.
ORC_API std::string protobuf_envelope(std::string_view api_version, std::string_view kind,
                                      std::string_view message);
/// Appends a length-delimited field: an item of a list message is number 2.
ORC_API void append_protobuf_bytes(std::string& out, std::uint32_t number, std::string_view bytes);
/// One event of a watch: four bytes of length (big endian), then WatchEvent {1 type, 2 RawExtension {1 raw}}
/// around an enveloped object.
ORC_API std::string protobuf_watch_frame(std::string_view type, std::string_view object);

}  // namespace orchestra::api
