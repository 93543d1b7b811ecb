// The real Transport: framed messages over TCP, one connection per direction (base/framed_connection.hpp).
#include "base/engine_impl.hpp"
#include "base/framed_connection.hpp"

namespace orchestra {

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

using TcpConnection = detail::FramedConnection<tcp::socket>;

std::shared_ptr<TcpConnection> make_connection(tcp::socket socket) {
  auto strand = asio::make_strand(socket.get_executor());
  return std::make_shared<TcpConnection>(std::move(socket), std::move(strand));
}

class TcpTransport final : public Transport {
 public:
  explicit TcpTransport(Engine& engine) : engine_(engine) {}
  Result<std::unique_ptr<TransportListener>> listen(const std::string& address, Accept accept) override {
    auto loop = std::make_shared<detail::AcceptLoop>(event_context(engine_),
                                                     [accept = std::move(accept)](tcp::socket socket) {
                                                       auto connection = make_connection(std::move(socket));
                                                       connection->start(accept(connection));
                                                     });
    ORC_ASSIGN(std::string real, loop->listen(address));
    return std::unique_ptr<TransportListener>(
        std::make_unique<detail::AcceptListener>(std::move(loop), std::move(real)));
  }
  Pending<std::shared_ptr<TransportConnection>> connect(const std::string& address,
                                                        TransportHandler handler) override {
    auto endpoint = detail::parse_endpoint(address);
    if (!endpoint) return endpoint.error();
    Promise<std::shared_ptr<TransportConnection>> promise;
    auto pending = promise.pending();
    detail::dial(event_context(engine_), address, *endpoint,
                 [promise, handler = std::move(handler)](Result<tcp::socket> socket) mutable {
                   if (!socket) return promise.set(socket.error());
                   auto connection = make_connection(std::move(*socket));
                   connection->start(std::move(handler));
                   promise.set(std::shared_ptr<TransportConnection>(connection));
                 });
    return pending;
  }

 private:
  Engine& engine_;
};
}  // namespace

std::unique_ptr<Transport> make_tcp_transport(Engine& engine) {
  return std::make_unique<TcpTransport>(engine);
}

}  // namespace orchestra
