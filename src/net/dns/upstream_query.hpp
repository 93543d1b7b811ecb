#pragma once
// One try at one upstream server: UDP from a fresh random port, TCP when the answer says so; or TLS alone.
//
// What protects against forged answers: a connected socket (only that server's packets arrive), a random
// port, a random id, and the case of the asked name, which the answer must repeat (0x20). A server that
// changes the case is asked again by TCP, where forging does not work.
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/posix/basic_stream_descriptor.hpp>

#include "net/dns/message.hpp"
#include "net/http/address.hpp"
#include "net/http/read_buffer.hpp"
#include "net/http/wire.hpp"

namespace orchestra::dns {

/// A server to ask: by UDP and TCP, or by TLS (RFC 7858) only.
struct Upstream {
  http::SocketAddress address;
  std::shared_ptr<const http::TlsContext> tls = nullptr;
  std::string tls_name = {};  ///< that its certificate must be for
};

struct UpstreamQuestion {
  Question question;
  bool dnssec_ok = false, checking_disabled = false;
};

class UpstreamQuery : public std::enable_shared_from_this<UpstreamQuery> {
 public:
  using Done = std::function<void(Result<Message>)>;
  /// All on `strand`; `done` is called once.
  UpstreamQuery(Engine& engine, http::Strand strand, Upstream server, UpstreamQuestion question, Done done);
  void start(Duration deadline);
  void cancel();

 private:
  void wait_udp();
  void read_udp();
  void start_tcp();
  void send_tcp();
  void read_tcp();
  bool is_answer(const Message& message, bool exact_case) const;
  void finish(Result<Message> result);
  Error failure(Error::Code code, const std::string& what) const;

  using Descriptor = boost::asio::posix::basic_stream_descriptor<http::Strand>;
  Engine& engine_;
  http::Strand strand_;
  const Upstream server_;
  UpstreamQuestion question_;
  Done done_;
  std::uint16_t id_ = 0;
  std::string packet_;
  std::unique_ptr<Descriptor> udp_;
  std::shared_ptr<http::Wire> tcp_;
  http::ReadBuffer buffer_;
  std::shared_ptr<http::Deadline> deadline_;
};

}  // namespace orchestra::dns
