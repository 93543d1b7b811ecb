// ControlServer: accepting on the event threads, one worker per request, blocking I/O with deadlines there.
#include "base/control.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>

#include "base/control_socket.hpp"
#include "base/engine_impl.hpp"
#include "base/fd.hpp"

namespace orchestra {
namespace {
constexpr std::size_t kConnectionsMax = 64;
constexpr int kRequestWaitMs = 10'000;  ///< for the request line to arrive
constexpr int kSendWaitMs = 30'000;     ///< for a client that does not read
constexpr int kListenBacklog = 64;
}  // namespace

struct ControlReply::Impl {
  explicit Impl(Fd socket) : fd(std::move(socket)) {}
  ~Impl() {
    if (!ended) end(Error(Error::internal, "control", "the operation ended without an answer"), {});
    if (on_end) on_end();
  }

  bool write_line(const json::object& line) {
    std::string text = to_json(line);
    text += '\n';
    return send_all(fd.get(), text, kSendWaitMs).has_value();
  }
  void end(const std::optional<Error>& error, json::object detail) {
    std::lock_guard lock(mutex);
    if (std::exchange(ended, true)) return;
    json::object line;
    if (error) {
      json::object body{{"code", to_string(error->code())}, {"message", error->to_string()}};
      if (!detail.empty()) body["detail"] = std::move(detail);
      line["error"] = std::move(body);
    } else {
      line["done"] = true;
    }
    if (!broken) write_line(line);
    ::shutdown(fd.get(), SHUT_WR);
  }

  std::mutex mutex;
  Fd fd;
  bool ended = false;
  bool broken = false;
  std::function<void()> on_end;
};

bool ControlReply::send(const json::object& line) const {
  std::lock_guard lock(impl_->mutex);
  if (impl_->ended || impl_->broken) return false;
  impl_->broken = !impl_->write_line(line);
  return !impl_->broken;
}
void ControlReply::done() const { impl_->end(std::nullopt, {}); }
void ControlReply::fail(const Error& error, json::object detail) const {
  impl_->end(error, std::move(detail));
}
bool ControlReply::closed() const {
  pollfd entry{impl_->fd.get(), POLLRDHUP, 0};
  return ::poll(&entry, 1, 0) > 0 && (entry.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

struct ControlServer::Impl : std::enable_shared_from_this<ControlServer::Impl> {
  Impl(Engine& host, std::string socket_path)
      : engine(host), path(std::move(socket_path)), listener(event_context(host)) {}

  Result<void> listen();
  void wait_for_connection();
  void accept_all();
  void take(Fd socket);
  void serve(const std::shared_ptr<ControlReply::Impl>& reply);
  void stop();

  Engine& engine;
  const std::string path;
  boost::asio::posix::stream_descriptor listener;
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, ControlHandler, std::less<>> handlers;
  std::set<ControlReply::Impl*> open;
  bool started = false;
  bool stopped = false;
};

Result<void> ControlServer::Impl::listen() {
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return system_error("control", "socket", path, errno);
  ORC_ASSIGN(const SocketAddress address, socket_address(path));
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return system_error("control", "unlink", path, errno);
  // The mode of the socket before bind() is the mode of the file after it (unix(7)): never open to others.
  if (::fchmod(socket.get(), 0600) != 0) return system_error("control", "fchmod", path, errno);
  if (::bind(socket.get(), address.get(), address.size()) != 0)
    return system_error("control", "bind", path, errno);
  if (::listen(socket.get(), kListenBacklog) != 0) return system_error("control", "listen", path, errno);
  listener.assign(socket.release());
  started = true;
  wait_for_connection();
  return {};
}

void ControlServer::Impl::wait_for_connection() {
  listener.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                      [self = shared_from_this()](const boost::system::error_code& failed) {
                        if (!failed) self->accept_all();
                      });
}

void ControlServer::Impl::accept_all() {
  std::vector<Fd> sockets;
  {
    std::lock_guard lock(mutex);
    if (stopped) return;
    while (true) {
      Fd socket(::accept4(listener.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!socket) break;
      sockets.push_back(std::move(socket));
    }
    wait_for_connection();
  }
  for (Fd& socket : sockets) take(std::move(socket));
}

void ControlServer::Impl::take(Fd socket) {
  auto reply = std::make_shared<ControlReply::Impl>(std::move(socket));
  {
    std::lock_guard lock(mutex);
    if (stopped || open.size() >= kConnectionsMax) {
      reply->end(Error(Error::overloaded, "control",
                       std::to_string(kConnectionsMax) + " control connections are open; try again"),
                 {});
      return;
    }
    open.insert(reply.get());
  }
  reply->on_end = [self = shared_from_this(), raw = reply.get()] {
    std::lock_guard lock(self->mutex);
    self->open.erase(raw);
    self->changed.notify_all();
  };
  auto queued = engine.post_blocking([self = shared_from_this(), reply] { self->serve(reply); });
  if (!queued) reply->end(queued.error(), {});
}

void ControlServer::Impl::serve(const std::shared_ptr<ControlReply::Impl>& reply) {
  std::string rest;
  auto line = receive_line(reply->fd.get(), rest, kRequestWaitMs, {});
  if (!line) return reply->end(line.error(), {});
  auto request = parse_json(*line);
  if (!request) return reply->end(request.error().with_context("control request"), {});
  const json::object* object = request->if_object();
  if (object == nullptr)
    return reply->end(Error(Error::invalid, "control", "a request is a JSON object"), {});
  const std::string op = string_at(*request, "/op");
  ControlHandler handler;
  {
    std::lock_guard lock(mutex);
    const auto found = handlers.find(op);
    if (found != handlers.end()) handler = found->second;
  }
  if (!handler) {
    return reply->end(Error(Error::unsupported, "control", "this process has no operation \"" + op + "\""),
                      {});
  }
  handler(*object, ControlReply(reply));
}

void ControlServer::Impl::stop() {
  std::unique_lock lock(mutex);
  if (std::exchange(stopped, true)) return;
  if (started) {
    boost::system::error_code ignored;
    listener.close(ignored);
    ::unlink(path.c_str());
  }
  // Blocked reads and writes of handlers end; ControlReply::closed() turns true for the rest.
  for (ControlReply::Impl* reply : open) ::shutdown(reply->fd.get(), SHUT_RDWR);
  changed.wait(lock, [this] { return open.empty(); });
}

ControlServer::ControlServer(Engine& engine, std::string path)
    : impl_(std::make_shared<Impl>(engine, std::move(path))) {}
ControlServer::~ControlServer() { stop(); }
void ControlServer::handle(std::string op, ControlHandler handler) {
  std::lock_guard lock(impl_->mutex);
  impl_->handlers[std::move(op)] = std::move(handler);
}
Result<void> ControlServer::start() { return impl_->listen(); }
void ControlServer::stop() { impl_->stop(); }

}  // namespace orchestra
