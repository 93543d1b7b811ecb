#pragma once
// Protobuf request bodies (content type application/vnd.kubernetes.protobuf) to the tree that JSON would
// give.
#include "api/schema.hpp"
#include "orchestra/result.hpp"

#include <boost/json.hpp>

namespace orchestra::api {
namespace json = boost::json;

/// `k8s\0`, then runtime.Unknown whose `raw` is a message of `schema`. Malformed bytes are a 400 Status that
/// names the field. Unknown numbers are skipped.
ORC_API Result<json::value> decode_protobuf(std::string_view bytes, SchemaRef schema);
/// One message without the envelope.
ORC_API Result<json::value> decode_protobuf_message(std::string_view bytes, SchemaRef schema);

}  // namespace orchestra::api
