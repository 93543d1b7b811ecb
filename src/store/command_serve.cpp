// `orchestra store serve`: flags to options, then a store, its control socket and its clients' port until
// told to stop.
#include "store/command_serve.hpp"

#include <algorithm>

#include "base/control.hpp"
#include "base/fd.hpp"
#include "orchestra/env.hpp"
#include "orchestra/store_client.hpp"
#include "store/ops.hpp"

namespace orchestra::store::command {
namespace {

constexpr Duration kLookForStop = std::chrono::milliseconds(50);

auto text_of(const Arguments& args) {
  return [&args](const char* flag, const char* otherwise) {
    return args.has(flag) ? args.values.at(flag) : std::string(otherwise);
  };
}

/// What tests and small machines want smaller.
Result<void> add_sizes(const Arguments& args, RaftStoreOptions& options) {
  for (const auto& [flag, to] : {std::pair("--segment-bytes", &options.segment_bytes),
                                 {"--snapshot-log-bytes", &options.snapshot_log_bytes},
                                 {"--log-keep-bytes", &options.log_keep_bytes}}) {
    ORC_ASSIGN(const auto bytes, number_of(args, flag));
    if (bytes) *to = Bytes{static_cast<std::uint64_t>(*bytes)};
  }
  options.first_segment_bytes = std::min(options.first_segment_bytes, options.segment_bytes);
  ORC_ASSIGN(const auto entries, number_of(args, "--log-keep-entries"));
  if (entries) options.log_keep_entries = static_cast<std::uint64_t>(*entries);
  ORC_ASSIGN(const auto level, number_of(args, "--snapshot-zstd"));
  if (level) options.snapshot_zstd = static_cast<int>(std::clamp<std::int64_t>(*level, -1, 100));
  if (args.has("--scrub-every")) {
    ORC_ASSIGN(const std::int64_t seconds, seconds_of(args.values.at("--scrub-every")));
    options.scrub_every = std::chrono::seconds(seconds);
  }
  return {};
}

/// "sync", "none", "interval" or "interval:MS".
Result<void> add_durability(const std::string& text, RaftStoreOptions& options) {
  using Durability = RaftStoreOptions::Durability;
  const std::string mode = text.substr(0, text.find(':'));
  const std::string time = mode.size() < text.size() ? text.substr(mode.size() + 1) : std::string();
  const bool timed = mode.size() < text.size();
  const bool number =
      !time.empty() && time.size() < 7 && time.find_first_not_of("0123456789") == std::string::npos;
  if ((mode != "sync" && mode != "none" && mode != "interval") || (timed && (mode != "interval" || !number)))
    return usage_error("--durability is sync, interval:MILLISECONDS or none, not \"" + text + "\"");
  options.durability = mode == "sync"   ? Durability::sync
                       : mode == "none" ? Durability::none
                                        : Durability::interval;
  if (timed) options.sync_interval = std::chrono::milliseconds(std::max(1L, std::stol(time)));
  return {};
}
std::string warning_of(const RaftStoreOptions& options) {
  using Durability = RaftStoreOptions::Durability;
  if (options.durability == Durability::sync) return {};
  if (options.durability == Durability::none) return ", NOT durable: a crash of the machine may lose writes";
  return ", a crash of the machine may lose the acknowledged writes of its last " +
         std::to_string(options.sync_interval.count() / 1'000'000) + " ms";
}

Result<RaftStoreOptions> options_of(const Arguments& args, const std::string& data) {
  const auto text = text_of(args);
  RaftStoreOptions options;
  options.data_dir = store_folder(data);
  options.name = text("--name", "a");
  options.initial_peers = split_list(text("--initial-peers", ""));
  options.join = split_list(text("--join", ""));
  options.peer_listen = text("--peer-listen", options.initial_peers.empty() ? "127.0.0.1:2391" : "");
  options.peer_address = text("--peer-address", "");
  options.repair = !args.has("--no-repair");
  if (args.has("--lan-fast")) use_lan_fast_timing(options);
  options.lease_reads = args.has("--lease-reads");
  ORC_ASSIGN(const auto drift, number_of(args, "--max-clock-drift"));
  if (drift) options.max_clock_drift = static_cast<double>(*drift) / 100;
  ORC_TRY(add_durability(text("--durability", "sync"), options));
  options.peer_tls = tls_of(args, "--peer-");
  if (options.peer_tls.empty()) options.peer_tls = tls_of(args, "--");
  ORC_TRY(add_sizes(args, options));
  return options;
}

/// Without TLS only on the loopback.
Result<void> refuse_open_peers(const Arguments& args, const RaftStoreOptions& options) {
  std::string listen = options.peer_listen;
  for (const std::string& peer : options.initial_peers) {
    const std::size_t equals = peer.find('=');
    if (listen.empty() && peer.substr(0, equals) == options.name) listen = peer.substr(equals + 1);
  }
  if (listen.empty() || listen.rfind("127.", 0) == 0 || args.has("--insecure") || !options.peer_tls.empty())
    return {};
  return Error(Error::denied, "store",
               "peers at " + listen +
                   " would talk unencrypted over the network; use TLS (--cacert, --cert, --key), a loopback "
                   "address, or --insecure");
}

}  // namespace

Result<int> serve(const Arguments& args, std::FILE* out, const std::function<bool()>& stopped) {
  if (!args.has("--data")) return usage_error("--data DIR is missing");
  const std::string& data = args.values.at("--data");
  const auto text = text_of(args);
  EngineOptions told;
  told.log_level = LogLevel::warning;
  told.log_sink = [](const LogRecord& record) {
    std::fputs((format_log_text(record) + "\n").c_str(), stderr);
  };
  Engine engine(std::move(told));
  const std::int64_t began = engine.clock().now().steady_ns;
  ORC_TRY(make_directories(data, 0700));
  ORC_ASSIGN(const RaftStoreOptions options, options_of(args, data));
  ORC_TRY(refuse_open_peers(args, options));
  ORC_ASSIGN(const auto store, RaftStore::open(engine, options));
  ControlServer server(engine, data + "/control.sock");
  register_store_ops(server, store);
  ORC_TRY(server.start());
  StoreServer::Options offered;
  offered.listen = text("--listen", "127.0.0.1:2390");
  offered.insecure = args.has("--insecure");
  offered.tls = tls_of(args, "--");
  StoreServer clients(engine, store, offered);
  ORC_TRY(clients.start());
  const std::int64_t took = (engine.clock().now().steady_ns - began) / 1'000'000;
  const std::string ready = "ready in " + std::to_string(took) + " ms on " + data +
                            "/control.sock, clients " + clients.address() + ", peers " +
                            (options.peer_listen.empty() ? "none" : options.peer_listen) +
                            (offered.tls.empty() ? "" : ", TLS") + warning_of(options) + "\n";
  std::fputs(ready.c_str(), out);
  std::fflush(out);
  while (!stopped()) {
    const Promise<> nobody;  // a wait without a clock of its own: nobody answers this one
    (void)nobody.pending().wait(kLookForStop);
  }
  clients.stop();
  server.stop();
  store->stop();
  return 0;
}

}  // namespace orchestra::store::command
