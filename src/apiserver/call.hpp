#pragma once
// One request on its way through the pipeline, and its answer. HTTP and the in-process client both make
// Calls; from there on nothing knows which of the two it was.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "api/types.hpp"
#include "apiserver/request_path.hpp"
#include "orchestra/client.hpp"
#include "orchestra/object.hpp"
#include "orchestra/result.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra::apiserver {

/// Who asks.
struct Identity {
  std::string user, uid;
  std::vector<std::string> groups;
  std::map<std::string, std::vector<std::string>> extra = {};
  /// The server itself, keeping what every cluster has: neither policies nor webhooks are asked, so none of
  /// them can keep a server from starting. Nobody outside becomes this.
  bool own = false;
  /// Who impersonates this user; null: nobody.
  std::shared_ptr<const Identity> behind = {};
  bool in_group(std::string_view group) const;
  static Identity masters();  ///< what server.client() is
  static Identity server();
  static Identity anonymous();
};

/// How the client wants objects to look.
enum class Form : std::uint8_t { json, yaml, table, partial };
enum class Include : std::uint8_t { none, metadata, object };
struct Representation {
  Form form = Form::json;
  std::string meta_version = "v1";  ///< of Table and PartialObjectMetadata
  Include include = Include::metadata;
  bool pretty = false;
  bool protobuf = false;        ///< of json and partial: the same objects as protobuf messages
  bool managed_fields = false;  ///< of objects; readers in this process do without
  bool operator==(const Representation&) const = default;
};

/// What the audit event of a request says besides, by annotation. Of the thread that handles the request.
struct AuditNotes {
  std::map<std::string, std::string> authorization;
  std::map<std::string, std::string> admission;  ///< of the last attempt
};

struct Call {
  RequestInfo info;
  Identity user;
  std::string body;
  std::string content_type = "application/json";
  std::string user_agent;
  std::string fence;             ///< "KEY=REVISION": create revision of the election's key
  std::int64_t deadline_ns = 0;  ///< of the steady clock; 0: what the server gives every request
  Representation want;
  /// In process the body comes as an object and is not printed and parsed again.
  Object object;
  bool want_object = false;                ///< the answer too
  std::shared_ptr<AuditNotes> notes = {};  ///< null: nothing is told of this request
};

struct Reply {
  int code = 200;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  Object object;                   ///< instead of the body if the call wanted it and the answer is an object
  std::optional<ObjectList> list;  ///< the same for a list
  /// A long answer in pieces, until nullopt; the body is then empty.
  std::function<std::optional<std::string>()> more;
};
using Answer = std::function<void(Reply)>;
/// The header that tells a client `text` (RFC 7234, code 299), which kubectl prints.
std::pair<std::string, std::string> warning_header(std::string_view text);

/// What a request is told that was not answered in time, as upstream does.
inline constexpr const char* kTimedOut = "request did not complete within the allotted timeout";

/// The Status answer of an error; 429 and 503 carry Retry-After.
Reply error_reply(const Error& error);
/// An error of the store in the words of the API: unknown outcome is 504, never success.
Error store_error(const Error& error);

}  // namespace orchestra::apiserver
