#pragma once
// How the command line reaches a running owner of a data folder: `control.sock`, a unix socket (0600).
//
// One request per connection: a JSON object on one line, {"op": "store.get", ...}. The answer is any number
// of JSON lines, ended by {"done": true} or {"error": {"code", "message", "detail"}}. Handlers run on engine
// workers and may block; they may also keep their ControlReply and answer later. Connections, request sizes
// and waiting times are bounded. The path may be longer than a socket address holds.
#include <functional>
#include <memory>
#include <string>

#include "base/json.hpp"
#include "orchestra/engine.hpp"

namespace orchestra {

/// The answering side of one request. Copyable; the first done() or fail() counts; when the last copy goes
/// without either, the client gets an error.
class ORC_API ControlReply {
 public:
  struct Impl;
  explicit ControlReply(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  /// Sends one line; blocks while the client does not read, at most kControlSendMax. False: the client is
  /// gone, the handler should end.
  bool send(const json::object& line) const;
  void done() const;
  /// `detail` becomes the error's "detail" member.
  void fail(const Error& error, json::object detail = {}) const;
  /// The client has closed its end; for handlers that have nothing to send for long.
  bool closed() const;

 private:
  std::shared_ptr<Impl> impl_;
};

using ControlHandler = std::function<void(const json::object& request, ControlReply reply)>;

class ORC_API ControlServer {
 public:
  /// `path` of the socket; what lies there is replaced: the caller owns the folder (by its lock).
  ControlServer(Engine& engine, std::string path);
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  /// Registers or replaces the handler of an operation; any time.
  void handle(std::string op, ControlHandler handler);
  Result<void> start();
  /// Refuses new connections, closes the open ones, waits for running handlers, removes the socket.
  void stop();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

/// The asking side; blocking, for programs.
class ORC_API ControlClient {
 public:
  using OnLine = std::function<Result<void>(const json::object& line)>;
  /// `not_found` when there is no socket, `unavailable` when nobody listens on it.
  static Result<ControlClient> connect(const std::string& path);
  ControlClient(ControlClient&&) noexcept;
  ControlClient& operator=(ControlClient&&) noexcept;
  ~ControlClient();
  /// Sends the request, calls `on_line` for each line until the end; an error of on_line ends it early. Each
  /// line may take `idle`. Errors of the server keep code and message; their detail is a json::object.
  /// `poll` (may be empty) is called now and then while nothing comes; false ends the call with `cancelled`.
  Result<void> call(const json::object& request, const OnLine& on_line, Duration idle,
                    const std::function<bool()>& poll = {});
  /// The one line of an operation that answers exactly one.
  Result<json::object> ask(const json::object& request, Duration idle);

 private:
  struct Impl;
  explicit ControlClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace orchestra
