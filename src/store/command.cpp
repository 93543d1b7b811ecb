// `orchestra store`: arguments in, operations of ops.hpp against a running or a stopped store, text out.
#include <charconv>
#include <functional>
#include <map>
#include <optional>

#include "base/base64.hpp"
#include "base/exit_status.hpp"
#include "base/fd.hpp"
#include "orchestra/env.hpp"
#include "orchestra/etcd_store.hpp"
#include "orchestra/raft_store.hpp"
#include "orchestra/store_client.hpp"
#include "orchestra/store_command.hpp"
#include "store/backup.hpp"
#include "store/check.hpp"
#include "store/command_args.hpp"
#include "store/command_serve.hpp"
#include "store/migrate.hpp"
#include "store/ops.hpp"
#include "store/restore.hpp"
#include "store/txn_text.hpp"

namespace orchestra {
namespace store {
namespace {

constexpr const char* kUsage =
    "usage: orchestra store COMMAND [--endpoint ADDR[,ADDR] | --data DIR] [--json] [--timeout 10s]\n"
    "  put KEY VALUE|-   [--if-revision N] [--lease TTL] [--previous]\n"
    "  get KEY           [--prefix] [--range-end K] [--revision N] [--limit N] [--keys-only] [--count]\n"
    "                    [--serializable] [--value-only]\n"
    "  del KEY           [--prefix] [--range-end K] [--if-revision N] [--previous]\n"
    "  watch KEY         [--prefix] [--range-end K] [--after N] [--previous] [--count N]\n"
    "  txn FILE|-        lines `if mod|version|create|lease|value KEY =|!=|<|> X`, `if exists|missing KEY`,\n"
    "                    `put KEY VALUE [lease=ID]`, `get KEY`, `del KEY`, `else`, `txn`..`end`; exit 4: a\n"
    "                    condition failed\n"
    "  compact REVISION\n"
    "  status\n"
    "  snapshot save FILE | snapshot status FILE\n"
    "  backup DIR        the changes since the last time, the first time everything; [--full] everything "
    "again,\n"
    "                    [--follow 10s] goes on until SIGTERM, a file each so often\n"
    "  restore FILE|DIR  [--bump-revision N] [--name N --initial-peers N=A,..] [--force-new-cluster] "
    "(--data)\n"
    "                    DIR: a backup, [--to-revision N] as it was then; or the folder of a stopped peer "
    "whose majority is lost (--force-new-cluster)\n"
    "  check             verifies the files of a stopped store (--data)\n"
    "  lease grant TTL | keep-alive ID | revoke ID | ttl ID | list\n"
    "  members list | add NAME ADDR [--learner] [--force] | promote ID | remove ID [--force] |\n"
    "          update ID ADDR | transfer ID | replace ID NAME ADDR (adds, waits, promotes, removes ID)\n"
    "  migrate FROM TO   copies a whole store into an empty one; each is a folder, orchestra://A,B,.. or the "
    "URL\n"
    "                    of an etcd; [--follow 2s]: goes on with what is written meanwhile, until FROM was\n"
    "                    quiet for so long\n"
    "  serve --data DIR  [--listen A] [--peer-listen A] [--peer-address A] [--name N] [--lan-fast]\n"
    "                    [--initial-peers N=A,..] [--join A,..] [--durability sync|interval:MS|none] "
    "[--insecure]\n"
    "                    [--cacert F --cert F --key F] [--peer-cacert F --peer-cert F --peer-key F]\n"
    "                    [--no-repair] [--scrub-every 24h] [--segment-bytes N] [--snapshot-log-bytes N]\n"
    "                    [--log-keep-entries N] [--log-keep-bytes N] [--snapshot-zstd LEVEL]\n"
    "                    [--lease-reads [--max-clock-drift PERCENT]]\n"
    "                    keeps the store of DIR open for others until SIGTERM; with certificates clients "
    "and\n"
    "                    peers talk mutual TLS 1.3 (peers: those of --cacert.. where no others are given)\n"
    "Without --endpoint and --data the store at 127.0.0.1:2390 is asked. ADDR is orchestra://HOST:PORT; "
    "with\n"
    "--cacert F --cert F --key F the server is spoken to in TLS.\n"
    "DIR is the data folder of a running process (reached by its control.sock) or a stopped one. FILE of\n"
    "`snapshot status` needs no --data. URL is that of an etcd (3.4 or later): http://HOST:PORT, https://..\n"
    "with [--cacert F] [--cert F --key F], or etcd+unix:/SOCKET; [--user NAME:PASSWORD].\n";

constexpr std::string_view kEndpointScheme = "orchestra://";
constexpr const char* kDefaultEndpoint = "orchestra://127.0.0.1:2390";
constexpr std::size_t kStdinMax = 16u << 20;
constexpr Duration kEndpointWait = std::chrono::seconds(9);  ///< less than what an operation waits for
constexpr Duration kReconnect = std::chrono::milliseconds(200);

using command::Arguments;
using command::etcd_options;
using command::holds_log;
using command::is_url;
using command::number_of;
using command::seconds_of;
using command::split_list;
using command::store_folder;
using command::usage_error;

/// Where operations run: at a server, in the process that owns the folder, or here after opening it.
class Target {
 public:
  using OnLine = std::function<Result<void>(const json::object&)>;

  static Result<std::unique_ptr<Target>> open(const std::string& data, bool create) {
    auto target = std::unique_ptr<Target>(new Target);
    auto client = ControlClient::connect(data + "/control.sock");
    if (client) {
      target->client_.emplace(std::move(*client));
      return target;
    }
    const Error& why = client.error();
    if (!why.is(Error::not_found) && !why.is(Error::unavailable)) return why;
    const std::string folder = store_folder(data);
    if (!create && !holds_log(real_disk(), folder)) {
      return Error(Error::not_found, "store", "there is no store in " + data + "; is --data right?");
    }
    target->engine_ = std::make_unique<Engine>();
    RaftStoreOptions options;
    options.data_dir = folder;
    ORC_ASSIGN(target->store_, RaftStore::open(*target->engine_, options));
    return target;
  }
  static Result<std::unique_ptr<Target>> connect(const std::string& endpoints, Duration deadline,
                                                 StoreTls tls) {
    auto target = std::unique_ptr<Target>(new Target);
    target->engine_ = std::make_unique<Engine>();
    StoreClientOptions options;
    options.endpoints = split_list(endpoints);
    options.call_deadline = deadline;
    options.tls = std::move(tls);
    ORC_ASSIGN(target->store_, StoreClient::connect(*target->engine_, std::move(options)));
    return target;
  }
  static Result<std::unique_ptr<Target>> open_etcd(const EtcdStoreOptions& options) {
    auto target = std::unique_ptr<Target>(new Target);
    target->engine_ = std::make_unique<Engine>();
    ORC_ASSIGN(target->store_, EtcdStore::open(*target->engine_, options));
    return target;
  }
  StateStore* store() const { return store_.get(); }
  ~Target() {
    if (store_) store_->stop();
    store_.reset();
  }

  /// In another process, which may go and come back.
  bool remote() const { return client_.has_value(); }
  Result<void> reconnect(const std::string& data) {
    ORC_ASSIGN(auto client, ControlClient::connect(data + "/control.sock"));
    client_.emplace(std::move(client));
    return {};
  }

  Result<void> run(const json::object& request, const OnLine& on_line, Duration idle,
                   const std::function<bool()>& go_on) {
    if (client_) return client_->call(request, on_line, idle, go_on);
    Result<void> stopped;
    OpContext context;
    context.emit = [&](const json::object& line) {
      stopped = on_line(line);
      return stopped.has_value();
    };
    context.cancelled = [&] { return go_on && !go_on(); };
    auto result = run_store_op(*store_, request, context);
    if (!stopped) return stopped;
    if (result) return result;
    return result.error().with_detail(error_detail(result.error()));
  }

 private:
  Target() = default;
  std::optional<ControlClient> client_;
  std::unique_ptr<Engine> engine_;
  std::shared_ptr<StateStore> store_;
};

class StoreCommand {
 public:
  StoreCommand(Arguments args, std::FILE* out, const StoreCommandOptions& options)
      : args_(std::move(args)), out_(out), options_(options) {}

  Result<int> run() {
    if (args_.has("--timeout")) {
      ORC_ASSIGN(const std::int64_t seconds, seconds_of(args_.values.at("--timeout")));
      idle_ = std::chrono::seconds(seconds);
    }
    if (args_.words.empty()) return usage_error("a command is missing");
    const std::string& command = args_.words[0];
    if (command == "snapshot") return snapshot();
    if (command == "restore") return restore();
    if (command == "backup") return backup();
    if (command == "members" || command == "lease") return administer(command);
    if (command == "check") return check();
    if (command == "migrate") return migrate();
    if (command == "put") return put();
    if (command == "get") return get();
    if (command == "del") return del();
    if (command == "watch") return watch();
    if (command == "txn") return txn();
    if (command == "compact") return compact();
    if (command == "status") return status();
    if (command == "reencrypt") return reencrypt();
    if (command == "serve") {
      ORC_TRY(words(1, "no arguments"));
      return command::serve(args_, out_, [this] { return stopped(); });
    }
    return usage_error("there is no command \"" + command + "\"");
  }

 private:
  bool json_lines() const { return args_.has("--json"); }
  void print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), out_); }
  void print_line(const json::object& line) { print(to_json(line) + "\n"); }
  static std::string decoded(const json::value& value) {
    return decode_base64_text(value.as_string()).value_or(std::string());
  }

  Result<void> words(std::size_t count, const char* what) const {
    if (args_.words.size() == count) return {};
    return usage_error("`store " + args_.words[0] + "` takes " + what);
  }
  Result<void> add_number(json::object& request, const std::string& flag, const char* name) {
    ORC_ASSIGN(const auto value, number_of(args_, flag));
    if (value) request[name] = *value;
    return {};
  }
  Result<json::object> range_request(const char* op) {
    ORC_TRY(words(2, "one KEY"));
    json::object request{{"op", op}, {"key", encode_base64_text(args_.words[1])}};
    if (args_.has("--prefix")) request["prefix"] = true;
    if (args_.has("--range-end")) request["end"] = encode_base64_text(args_.values.at("--range-end"));
    if (args_.has("--previous")) request["previous"] = true;
    return request;
  }

  /// `--data`, else the endpoints.
  Result<std::unique_ptr<Target>> target_of(bool create) const {
    if (args_.has("--data") && args_.has("--endpoint"))
      return usage_error("either --data or --endpoint, not both");
    if (args_.has("--data")) return Target::open(args_.values.at("--data"), create);
    const auto endpoint = args_.values.find("--endpoint");
    if (endpoint != args_.values.end() && is_url(endpoint->second)) return etcd_target(endpoint->second);
    StoreTls tls = command::tls_of(args_, "--");
    return Target::connect(
        endpoint == args_.values.end() ? kDefaultEndpoint : endpoint->second,
        args_.has("--timeout") ? std::min<Duration>(idle_, kEndpointWait) : kEndpointWait / 2,
        std::move(tls));
  }
  /// Only the keys that are asked for are mirrored; `snapshot` takes all.
  Result<std::unique_ptr<Target>> etcd_target(const std::string& urls) const {
    std::string prefix = args_.words[0] == "snapshot" ? std::string() : std::string("\0", 1);
    const bool keyed = args_.words[0] != "compact" && args_.words[0] != "snapshot" &&
                       args_.words[0] != "txn" && args_.words.size() > 1;
    if (keyed) prefix = args_.words[1];
    if (args_.has("--range-end")) {
      const std::string& end = args_.values.at("--range-end");
      const auto differs = std::mismatch(prefix.begin(), prefix.end(), end.begin(), end.end());
      prefix.erase(differs.first, prefix.end());
    }
    ORC_ASSIGN(const EtcdStoreOptions options, etcd_options(args_, urls, prefix));
    return Target::open_etcd(options);
  }
  std::string place() const {
    for (const char* flag : {"--data", "--endpoint"}) {
      if (args_.has(flag)) return args_.values.at(flag);
    }
    return kDefaultEndpoint;
  }
  Result<void> ask(const json::object& request, const Target::OnLine& on_line, bool create = false) {
    ORC_ASSIGN(const auto target, target_of(create));
    return target->run(request, on_line, idle_, {});
  }

  /// FROM and TO stand for themselves; the other side of a folder is opened here, so nobody may own it.
  Result<int> migrate() {
    ORC_TRY(words(3, "FROM and TO"));
    std::unique_ptr<Target> sides[2];
    for (int i = 0; i < 2; ++i) {
      const std::string& name = args_.words[static_cast<std::size_t>(i) + 1];
      if (is_url(name)) {
        ORC_ASSIGN(const EtcdStoreOptions options, etcd_options(args_, name, {}));
        ORC_ASSIGN(sides[i], Target::open_etcd(options));
      } else if (name.compare(0, kEndpointScheme.size(), kEndpointScheme) == 0) {
        ORC_ASSIGN(sides[i], Target::connect(name, kEndpointWait, command::tls_of(args_, "--")));
      } else {
        if (i == 1) ORC_TRY(make_directories(name, 0700));
        ORC_ASSIGN(sides[i], Target::open(name, i == 1));
      }
      if (sides[i]->store() == nullptr)
        return Error(Error::busy, "store", "a process is running on " + name + "; stop it first");
    }
    MigrateOptions options;
    if (args_.has("--follow")) {
      ORC_ASSIGN(const std::int64_t quiet, seconds_of(args_.values.at("--follow")));
      options.quiet = std::chrono::seconds(std::max<std::int64_t>(1, quiet));
      options.stopped = [this] { return stopped(); };
    }
    ORC_ASSIGN(const MigrateSummary summary, store::migrate(*sides[0]->store(), *sides[1]->store(), options));
    if (json_lines()) {
      print_line({{"from_revision", summary.from_revision},
                  {"to_revision", summary.to_revision},
                  {"keys", summary.keys},
                  {"bytes", summary.bytes},
                  {"leases", summary.leases},
                  {"sha256", summary.sha256}});
      return 0;
    }
    print("keys " + std::to_string(summary.keys) + "\nbytes " + std::to_string(summary.bytes) + "\nleases " +
          std::to_string(summary.leases) + "\nrevision " + std::to_string(summary.from_revision) +
          " is now " + std::to_string(summary.to_revision) + "\nsha256 " + summary.sha256 +
          " on both sides\n");
    return 0;
  }

  void print_kv(const json::object& kv) {
    print(decoded(kv.at("key")) + "\n");
    if (!args_.has("--keys-only")) print(decoded(kv.at("value")) + "\n");
  }
  void print_previous(const json::object& line) {
    const json::value* previous = line.if_contains("previous");
    if (previous == nullptr) return;
    for (const json::value& kv : previous->as_array()) print_kv(kv.as_object());
  }
  Result<void> print_write(const json::object& line) {
    if (json_lines()) {
      print_line(line);
      return {};
    }
    print("revision " + std::to_string(line.at("revision").to_number<std::int64_t>()) + "\n");
    print_previous(line);
    return {};
  }

  Result<std::string> read_value(const std::string& word) {
    if (word != "-") return word;
    std::string value;
    char buffer[64 << 10];
    while (const std::size_t got = std::fread(buffer, 1, sizeof buffer, options_.in)) {
      value.append(buffer, got);
      if (value.size() > kStdinMax)
        return Error(Error::too_large, "store", "the value on standard input is too large");
    }
    return value;
  }

  Result<int> put() {
    ORC_TRY(words(3, "KEY and VALUE (or - for standard input)"));
    ORC_ASSIGN(const std::string value, read_value(args_.words[2]));
    json::object request{{"op", "store.put"},
                         {"key", encode_base64_text(args_.words[1])},
                         {"value", encode_base64_text(value)}};
    ORC_TRY(add_number(request, "--if-revision", "if_revision"));
    if (args_.has("--lease")) {
      ORC_ASSIGN(request["lease_ttl_s"], seconds_of(args_.values.at("--lease")));
    }
    if (args_.has("--previous")) request["previous"] = true;
    ORC_TRY(ask(
        request, [&](const json::object& line) { return print_write(line); }, true));
    return 0;
  }

  Result<int> get() {
    ORC_ASSIGN(json::object request, range_request("store.get"));
    ORC_TRY(add_number(request, "--revision", "revision"));
    ORC_TRY(add_number(request, "--limit", "limit"));
    for (const auto& [flag, name] :
         {std::pair("--keys-only", "keys_only"), {"--count", "count"}, {"--serializable", "serializable"}}) {
      if (args_.has(flag)) request[name] = true;
    }
    std::uint64_t count = 0;
    ORC_TRY(ask(request, [&](const json::object& line) -> Result<void> {
      if (const json::value* total = line.if_contains("count")) count = total->to_number<std::uint64_t>();
      if (json_lines()) {
        print_line(line);
      } else if (const json::value* kv = line.if_contains("kv")) {
        if (args_.has("--value-only")) {
          print(decoded(kv->at("value")));
        } else {
          print_kv(kv->as_object());
        }
      } else if (args_.has("--count")) {
        print(std::to_string(count) + "\n");
      }
      return {};
    }));
    const bool single = !request.contains("prefix") && !request.contains("end");
    if (single && count == 0 && !args_.has("--count")) {
      return Error(Error::not_found, "store", "there is no key \"" + args_.words[1] + "\" in " + place());
    }
    return 0;
  }

  Result<int> del() {
    ORC_ASSIGN(json::object request, range_request("store.del"));
    ORC_TRY(add_number(request, "--if-revision", "if_revision"));
    ORC_TRY(ask(request, [&](const json::object& line) -> Result<void> {
      if (!json_lines())
        print("removed " + std::to_string(line.at("removed").to_number<std::int64_t>()) + "\n");
      return print_write(line);
    }));
    return 0;
  }

  Result<int> txn() {
    ORC_TRY(words(2, "one FILE, or - for standard input"));
    std::string text;
    if (args_.words[1] == "-") {
      ORC_ASSIGN(text, read_value("-"));
    } else {
      ORC_ASSIGN(text, real_disk().read_file(args_.words[1], kStdinMax));
    }
    ORC_TRY(parse_txn(text));  // a mistake in it needs no server
    bool held = false;
    const auto show = [&](const json::object& line) -> Result<void> {
      held = line.at("succeeded").as_bool();
      if (json_lines()) {
        print_line(line);
        return {};
      }
      print_txn(line);
      print("revision " + std::to_string(line.at("revision").to_number<std::int64_t>()) + "\n");
      return {};
    };
    ORC_TRY(ask({{"op", "store.txn"}, {"text", encode_base64_text(text)}}, show, true));
    return held ? 0 : exit_status(Error(Error::conflict, "store", ""));
  }

  /// Also one within another: in the place of its operation.
  void print_txn(const json::object& line) {
    print(line.at("succeeded").as_bool() ? "held\n" : "did not hold\n");
    for (const json::value& each : line.at("ops").as_array()) {
      const json::object& op = each.as_object();
      if (op.contains("ops")) {
        print_txn(op);
      } else if (const json::value* kvs = op.if_contains("kvs")) {
        for (const json::value& kv : kvs->as_array()) print_kv(kv.as_object());
      } else if (const json::value* removed = op.if_contains("removed")) {
        print("removed " + std::to_string(removed->to_number<std::int64_t>()) + "\n");
      }
    }
  }

  void print_event(const json::object& event) {
    const json::object& kv = event.at("kv").as_object();
    const bool put = event.at("type").as_string() == "put";
    print(std::string(put ? "PUT " : "DELETE ") +
          std::to_string(kv.at("mod_revision").to_number<std::int64_t>()) + "\n");
    print(decoded(kv.at("key")) + "\n");
    if (put) print(decoded(kv.at("value")) + "\n");
    if (const json::value* previous = event.if_contains("previous")) {
      print("was " + decoded(previous->at("value")) + "\n");
    }
  }

  bool stopped() const { return options_.stop != nullptr && options_.stop->load(); }
  /// Waits without a clock of its own: nobody answers this one.
  static void pause(Duration time) {
    const Promise<> nobody;
    (void)nobody.pending().wait(time);
  }

  Result<int> watch() {
    ORC_ASSIGN(json::object request, range_request("store.watch"));
    ORC_TRY(add_number(request, "--after", "after"));
    ORC_ASSIGN(const auto count, number_of(args_, "--count"));
    std::int64_t seen = 0;
    const auto full = [&] { return count && seen >= *count; };
    ORC_ASSIGN(const auto target, target_of(false));
    const auto on_batch = [&](const json::object& batch) -> Result<void> {
      for (const json::value& event : batch.at("events").as_array()) {
        if (full()) break;
        ++seen;
        if (json_lines()) {
          print_line(event.as_object());
        } else {
          print_event(event.as_object());
        }
      }
      std::fflush(out_);
      request["after"] = batch.at("revision");
      if (full()) return Error(Error::cancelled, "store", "enough events");
      return {};
    };
    while (true) {
      auto result =
          target->run(request, on_batch, std::chrono::hours(24 * 365), [&] { return !full() && !stopped(); });
      if (result || result.error().is(Error::cancelled)) return 0;
      if (!result.error().is(Error::unavailable) || !target->remote()) return result.error();
      // The server went away: its successor goes on where it ended. What comes first is not asked for again.
      while (!target->reconnect(place())) {
        if (stopped()) return 0;
        pause(kReconnect);
      }
    }
  }

  /// `members ...` and `lease ...`: one operation each, printed as it comes.
  Result<int> administer(const std::string& command) {
    if (args_.words.size() < 2) return usage_error("`store " + command + "` needs an action; see --help");
    json::object request{{"op", "store." + command}, {"action", args_.words[1]}};
    json::array words;
    for (std::size_t i = 2; i < args_.words.size(); ++i) words.emplace_back(args_.words[i]);
    request["words"] = std::move(words);
    if (args_.has("--learner")) request["learner"] = true;
    if (args_.has("--force")) request["force"] = true;
    if (command == "lease" && args_.words[1] == "grant" && args_.words.size() > 2) {
      ORC_ASSIGN(request["ttl_s"], seconds_of(args_.words[2]));
    }
    ORC_TRY(ask(request, [&](const json::object& line) -> Result<void> {
      if (json_lines()) {
        print_line(line);
        return {};
      }
      std::string out;
      for (const auto& [name, value] : line) {
        const std::string shown = value.is_string() ? std::string(value.as_string()) : to_json(value);
        if (!shown.empty()) out += (out.empty() ? "" : "  ") + std::string(name) + " " + shown;
      }
      print(out + "\n");
      return {};
    }));
    return 0;
  }

  Result<int> check() {
    ORC_TRY(words(1, "no arguments"));
    if (!args_.has("--data")) return usage_error("--data DIR is missing");
    const std::string folder = store_folder(args_.values.at("--data"));
    ORC_ASSIGN(const auto lines, check_folder(real_disk(), folder));
    for (const std::string& line : lines) print(line + "\n");
    return 0;
  }

  Result<int> compact() {
    ORC_TRY(words(2, "one REVISION"));
    std::int64_t revision = 0;
    const std::string& text = args_.words[1];
    const auto end = std::from_chars(text.data(), text.data() + text.size(), revision);
    if (end.ec != std::errc() || end.ptr != text.data() + text.size()) {
      return usage_error("\"" + text + "\" is not a revision");
    }
    ORC_TRY(ask({{"op", "store.compact"}, {"revision", revision}},
                [](const json::object&) { return Result<void>(); }));
    print("compacted " + text + "\n");
    return 0;
  }

  Result<int> status() {
    ORC_TRY(words(1, "no arguments"));
    ORC_TRY(ask({{"op", "store.status"}}, [&](const json::object& line) -> Result<void> {
      if (json_lines()) {
        print_line(line);
        return {};
      }
      for (const auto& [name, value] : line) {
        if (value.is_array()) {
          for (const json::value& each : value.as_array())
            print(std::string(name) + ": " + std::string(each.as_string()) + "\n");
        } else {
          print(std::string(name) + ": " +
                (value.is_string() ? std::string(value.as_string()) : to_json(value)) + "\n");
        }
      }
      return {};
    }));
    return 0;
  }

  void print_summary(const SnapshotSummary& summary) {
    if (json_lines()) {
      print_line({{"revision", summary.meta.revision},
                  {"compacted_revision", summary.meta.compacted},
                  {"keys", summary.records},
                  {"bytes", summary.bytes},
                  {"sha256", summary.sha256}});
      return;
    }
    print("revision " + std::to_string(summary.meta.revision) + "\nkeys " + std::to_string(summary.records) +
          "\nbytes " + std::to_string(summary.bytes) + "\nsha256 " + summary.sha256 + "\n");
  }

  Result<int> reencrypt() {
    ORC_TRY(words(1, "no further words"));
    auto done = ask({{"op", "store.reencrypt"}}, [&](const json::object& line) -> Result<void> {
      print(std::to_string(int_at(json::value(line), "/rewritten")) + " values rewritten\n");
      return {};
    });
    if (!done && done.error().is(Error::unsupported)) {
      return Error(Error::unavailable, "store",
                   "reencrypt is done by the API server of this folder; start `orchestra up` with it first");
    }
    ORC_TRY(done);
    return 0;
  }

  Result<int> snapshot() {
    ORC_TRY(words(3, "`save FILE` or `status FILE`"));
    const std::string& file = args_.words[2];
    if (args_.words[1] == "save") {
      ORC_TRY(save_snapshot(file));
      const std::string keys = place() + "/pki/encryption.yaml";
      if (args_.has("--data") && real_disk().exists(keys)) {
        print("Sealed values in this file open only with " + keys + ": keep a copy of it apart.\n");
      }
    } else if (args_.words[1] != "status") {
      return usage_error("`store snapshot` takes `save FILE` or `status FILE`");
    }
    ORC_ASSIGN(const SnapshotSummary summary, verify_snapshot_file(real_disk(), file));
    print_summary(summary);
    return 0;
  }

  Result<void> save_snapshot(const std::string& file) {
    const std::string part = file + ".part";
    Disk& disk = real_disk();
    ORC_ASSIGN(auto opened, disk.open(part, Disk::Open::create_or_open));
    ORC_TRY(opened->truncate(0));
    std::uint64_t offset = 0;
    auto saved = ask({{"op", "store.snapshot"}}, [&](const json::object& line) -> Result<void> {
      const json::value* data = line.if_contains("data");
      if (data == nullptr) return {};
      const std::string bytes = decoded(*data);
      ORC_TRY(opened->write_at(offset, bytes));
      offset += bytes.size();
      return {};
    });
    if (saved) saved = opened->sync();
    opened.reset();
    if (!saved) {
      (void)disk.remove(part);
      return saved;
    }
    ORC_TRY(disk.rename(part, file));
    const std::size_t slash = file.rfind('/');
    return disk.sync_directory(slash == std::string::npos ? "." : file.substr(0, slash + 1));
  }

  Result<int> backup() {
    ORC_TRY(words(2, "one DIR"));
    ORC_ASSIGN(const auto target, target_of(false));
    if (target->store() == nullptr) {
      return Error(Error::busy, "store",
                   "a process is running on " + place() + "; reach it by --endpoint, or stop it");
    }
    BackupOptions options;
    options.full = args_.has("--full");
    options.stopped = [this] { return stopped(); };
    if (args_.has("--follow")) {
      ORC_ASSIGN(const std::int64_t seconds, seconds_of(args_.values.at("--follow")));
      options.follow = std::chrono::seconds(std::max<std::int64_t>(1, seconds));
    }
    ORC_ASSIGN(const BackupSummary done, back_up(*target->store(), real_disk(), args_.words[1], options));
    if (json_lines()) {
      print_line({{"full", done.full != 0},
                  {"after", done.after},
                  {"revision", done.upto},
                  {"changes", done.changes},
                  {"bytes", done.bytes}});
      return 0;
    }
    print((done.full != 0 ? "full backup of revision " + std::to_string(done.full) + "\n" : std::string()) +
          "changes " + std::to_string(done.changes) + " after revision " + std::to_string(done.after) +
          "\nrevision " + std::to_string(done.upto) + "\nbytes " + std::to_string(done.bytes) + "\n");
    return 0;
  }

  Result<int> restore() {
    ORC_TRY(words(2, "one FILE"));
    if (!args_.has("--data")) return usage_error("--data DIR is missing");
    const std::string& data = args_.values.at("--data");
    if (ControlClient::connect(data + "/control.sock")) {
      return Error(Error::busy, "store",
                   "a process is running on " + data + "; stop it, and restore into a new folder");
    }
    RestoreOptions options;
    options.file = args_.words[1];
    if (real_disk().list(options.file) && !is_backup(real_disk(), options.file))
      options.file = store_folder(options.file);
    ORC_ASSIGN(const auto revision, number_of(args_, "--to-revision"));
    if (revision) options.to_revision = *revision;
    options.force_new_cluster = args_.has("--force-new-cluster");
    if (args_.has("--name")) options.name = args_.values.at("--name");
    if (args_.has("--initial-peers")) options.initial_peers = split_list(args_.values.at("--initial-peers"));
    options.folder = store_folder(data);
    ORC_ASSIGN(const auto bump, number_of(args_, "--bump-revision"));
    if (bump) options.bump = *bump;
    ORC_TRY(make_directories(data, 0700));
    ORC_ASSIGN(const SnapshotSummary summary, restore_snapshot(real_disk(), real_random(), options));
    print_summary(summary);
    return 0;
  }

  const Arguments args_;
  std::FILE* const out_;
  const StoreCommandOptions options_;
  Duration idle_ = std::chrono::seconds(10);
};

}  // namespace
}  // namespace store

int run_store_command(const std::vector<std::string>& args, std::FILE* out, std::FILE* err,
                      const StoreCommandOptions& options) {
  if (args.empty() || args[0] == "help" || args[0] == "--help" || args[0] == "-h") {
    std::fputs(store::kUsage, args.empty() ? err : out);
    return args.empty() ? 2 : 0;
  }
  const auto run = [&]() -> Result<int> {
    ORC_ASSIGN(store::command::Arguments parsed, store::command::parse(args));
    return store::StoreCommand(std::move(parsed), out, options).run();
  };
  const Result<int> result = run();
  std::fflush(out);
  if (result) return *result;
  std::fprintf(err, "orchestra store: %s\n", result.error().to_string().c_str());
  return exit_status(result.error());
}

}  // namespace orchestra
