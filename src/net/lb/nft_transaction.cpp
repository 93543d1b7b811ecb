#include "net/lb/nft_transaction.hpp"

#include <nftables/libnftables.h>

#include <algorithm>

#include "net/podnet/in_namespace.hpp"

namespace orchestra::net {

struct NftSession::Impl {
  NetworkNamespace name_space;
  nft_ctx* context = nullptr;
  ~Impl() {
    if (context != nullptr) ::nft_ctx_free(context);
  }
};

NftSession::NftSession() : impl_(std::make_unique<Impl>()) {}
NftSession::~NftSession() = default;

Result<std::unique_ptr<NftSession>> NftSession::open(const NetworkNamespace& name_space) {
  std::unique_ptr<NftSession> session(new NftSession);
  session->impl_->name_space = name_space;
  ORC_TRY(in_namespace(name_space, [&]() -> Result<void> {
    session->impl_->context = ::nft_ctx_new(NFT_CTX_DEFAULT);
    if (session->impl_->context == nullptr) {
      return Error(Error::unsupported, "net", "nftables cannot be used: its context could not be made");
    }
    return {};
  }));
  ::nft_ctx_buffer_output(session->impl_->context);
  ::nft_ctx_buffer_error(session->impl_->context);
  return session;
}

Result<void> NftSession::run(const std::string& commands) {
  auto done = list(commands);
  if (!done) return done.error();
  return {};
}

Result<std::string> NftSession::list(const std::string& command) {
  nft_ctx* context = impl_->context;
  if (::nft_run_cmd_from_buffer(context, command.c_str()) == 0) {
    return std::string(::nft_ctx_get_output_buffer(context));
  }
  std::string text = ::nft_ctx_get_error_buffer(context);
  constexpr std::size_t kErrorBytesMax = 2000;
  if (text.size() > kErrorBytesMax) text.resize(kErrorBytesMax);
  std::replace(text.begin(), text.end(), '\n', ' ');
  const auto code = text.find("Operation not permitted") != std::string::npos ? Error::denied
                    : text.find("No such file") != std::string::npos          ? Error::not_found
                    : text.find("Operation not supported") != std::string::npos ||
                            text.find("Protocol not supported") != std::string::npos
                        ? Error::unsupported
                        : Error::io;
  return Error(code, "net", "nftables refused the transaction: " + text);
}

std::string nft_table_name(const std::string& instance, const std::string& suffix) {
  return "orc_" + instance + suffix;
}

Result<void> check_instance(const std::string& instance) {
  const bool hex =
      instance.size() == 8 && instance.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (hex) return {};
  return Error(
      Error::invalid, "net",
      "instance \"" + instance + "\" must be 8 hexadecimal digits in lower case: it names links and tables");
}

const char* nft_word(IpProtocol protocol) {
  return protocol == IpProtocol::tcp ? "tcp" : protocol == IpProtocol::udp ? "udp" : "sctp";
}

}  // namespace orchestra::net
