// Mutual TLS between peers and to clients, on real processes: who has no certificate of the authority is
// nobody.
#include <fstream>

#include "tests/store_process/lab.hpp"
#include "tests/support/certificates.hpp"

using namespace orchestra;
using namespace orchestra::test;

namespace {

std::string write_file(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
  return path;
}
std::string ip_of(const std::string& address) { return address.substr(0, address.rfind(':')); }

/// Writes the three files and names them as flags.
std::vector<std::string> flags_of(const TempDir& folder, const std::string& name, const std::string& ca_pem,
                                  const TestAuthority::Pair& pair) {
  return {"--cacert", write_file(folder / (name + ".ca"), ca_pem),
          "--cert",   write_file(folder / (name + ".crt"), pair.certificate_pem),
          "--key",    write_file(folder / (name + ".key"), pair.key_pem)};
}

}  // namespace

TEST_CASE(
    "three peers and their clients talk mutual TLS; strangers, foreign and plain ones are turned away") {
  const TestAuthority authority, foreign;
  TempDir folder;
  Lab lab(3, [&](Lab& made) {
    const auto pair = authority.issue("peer", "IP:" + ip_of(made.peers[0]));
    made.serve_flags = flags_of(folder, "peer", authority.ca_pem(), pair);
    const auto client = authority.issue("client", "");
    made.client_flags = flags_of(folder, "client", authority.ca_pem(), client);
    made.tls = {authority.ca_pem(), client.certificate_pem, client.key_pem};
  });
  const std::string endpoint = lab.clients[0];
  CHECK(lab.run({"put", "k", "sealed", "--endpoint", endpoint}) == 0);
  CHECK(lab.run({"get", "k", "--endpoint", lab.clients[2]}) == 0);
  Load load(lab);
  REQUIRE(eventually([&] { return load.acknowledged() > 30; }));
  const std::size_t leader = lab.leader();
  lab.children[leader]->end(SIGKILL);
  const std::size_t before = load.acknowledged();
  REQUIRE(eventually([&] { return load.acknowledged() > before + 30; }));
  lab.start(leader);
  check(load.finish());

  const auto get_by = [&](const std::vector<std::string>& flags) {
    std::vector<std::string> args{"get", "k", "--timeout", "2s", "--endpoint", endpoint};
    args.insert(args.end(), flags.begin(), flags.end());
    const auto own = std::exchange(lab.client_flags, {});
    const int status = lab.run(args);
    lab.client_flags = own;
    return status;
  };
  CHECK(get_by({}) == 5);  // plain
  const auto wrong = foreign.issue("client", "");
  CHECK(get_by(flags_of(folder, "wrong", authority.ca_pem(), wrong)) == 5);  // signed by somebody else
  const auto good = authority.issue("client", "");
  CHECK(get_by(flags_of(folder, "fooled", foreign.ca_pem(), good)) == 5);  // does not trust the server
  CHECK(get_by({"--cacert", folder / "client.ca"}) == 2);                  // mutual: a certificate is missing
  CHECK(get_by(flags_of(folder, "again", authority.ca_pem(), good)) == 0);

  // A peer of another authority may have the right data; it is no peer.
  const std::size_t other = (leader + 1) % 3;
  CHECK(lab.children[other]->end(SIGTERM) == 0);
  const auto honest = lab.serve_flags;
  lab.serve_flags =
      flags_of(folder, "stranger", foreign.ca_pem(), foreign.issue("peer", "IP:" + ip_of(lab.peers[0])));
  lab.start(other);
  auto any = StoreClient::connect(lab.engine,
                                  {.endpoints = {lab.clients[leader]}, .call_deadline = 10s, .tls = lab.tls});
  REQUIRE(eventually([&] {
    const auto all = dynamic_cast<StoreMembers&>(**any).members().wait(kSoon);
    if (!all) return false;
    for (const StoreMember& member : *all) {
      if (member.name == lab.name(other)) return member.trouble.find("TLS") != std::string::npos;
    }
    return false;
  }));
  CHECK((*any)->put("two of three", "x").wait(kSoon).has_value());
  (*any)->stop();
  CHECK(lab.children[other]->end(SIGTERM) == 0);
  lab.serve_flags = honest;
}

TEST_CASE("certificates whose files change serve from then on: an authority is replaced without a restart") {
  const TestAuthority old("old authority"), next("next authority");
  TempDir folder;
  std::string names;
  Lab lab(3, [&](Lab& made) {
    names = "IP:" + ip_of(made.peers[0]);
    made.serve_flags = flags_of(folder, "peer", old.ca_pem(), old.issue("peer", names));
    const auto client = old.issue("client", "");
    made.client_flags = flags_of(folder, "client", old.ca_pem(), client);
    made.tls = {old.ca_pem(), client.certificate_pem, client.key_pem};
  });
  const auto fresh = flags_of(folder, "fresh", next.ca_pem(), next.issue("client", ""));
  const auto get_by = [&](const std::vector<std::string>& flags, std::size_t server) {
    std::vector<std::string> args{"get", "ready", "--timeout", "2s", "--endpoint", lab.clients[server]};
    args.insert(args.end(), flags.begin(), flags.end());
    const auto own = std::exchange(lab.client_flags, {});
    const int status = lab.run(args);
    lab.client_flags = own;
    return status;
  };
  CHECK(get_by(fresh, 0) == 5);
  // Both are trusted, then the new one signs, then the old one is forgotten.
  write_file(folder / "peer.crt", "half a certifi");  // not taken: what was there goes on
  CHECK(get_by(lab.client_flags, 0) == 0);
  flags_of(folder, "peer", old.ca_pem() + next.ca_pem(), old.issue("peer", names));
  auto both = fresh;
  both[1] = write_file(folder / "both.ca", old.ca_pem() + next.ca_pem());
  for (std::size_t i = 0; i < 3; ++i) REQUIRE(eventually([&] { return get_by(both, i) == 0; }));
  flags_of(folder, "peer", next.ca_pem(), next.issue("peer", names));
  for (std::size_t i = 0; i < 3; ++i) REQUIRE(eventually([&] { return get_by(fresh, i) == 0; }));
  CHECK(get_by(lab.client_flags, 0) == 5);
  // Peers that must dial each other anew do so with what is there now.
  const std::size_t leader = [&] {
    const auto client = next.issue("client", "");
    lab.tls = {next.ca_pem(), client.certificate_pem, client.key_pem};
    return lab.leader();
  }();
  lab.children[leader]->end(SIGKILL);
  lab.start(leader);
  lab.client_flags = fresh;
  REQUIRE(eventually([&] { return get_by(fresh, leader) == 0; }));
  Load load(lab);
  REQUIRE(eventually([&] { return load.acknowledged() > 30; }));
  check(load.finish());
}

TEST_CASE("beyond the loopback only with TLS, and only with all that it needs") {
  const TestAuthority authority;
  TempDir folder;
  const auto serve = [&](std::vector<std::string> flags) {
    std::vector<std::string> args{kProgram,     "store",         "serve",      "--data",
                                  folder / "d", "--peer-listen", "127.0.0.1:0"};
    args.insert(args.end(), flags.begin(), flags.end());
    return Child(args, folder / "log").wait();
  };
  CHECK(serve({"--listen", "0.0.0.0:0"}) == 10);
  CHECK(serve({"--listen", "127.0.0.1:0", "--peer-listen", "0.0.0.0:0"}) == 10);
  const auto pair = authority.issue("peer", "IP:127.0.0.1");
  const auto whole = flags_of(folder, "peer", authority.ca_pem(), pair);
  CHECK(serve({"--listen", "0.0.0.0:0", whole[2], whole[3], whole[4], whole[5]}) == 2);  // no authority
  const auto mixed =
      flags_of(folder, "mixed", authority.ca_pem(), {pair.certificate_pem, authority.issue("x", "").key_pem});
  std::vector<std::string> args{"--listen", "0.0.0.0:0"};
  args.insert(args.end(), mixed.begin(), mixed.end());
  CHECK(serve(args) == 2);  // the key is of another certificate
  args = {"--listen", "0.0.0.0:0"};
  args.insert(args.end(), whole.begin(), whole.end());
  args.insert(args.begin(),
              {kProgram, "store", "serve", "--data", folder / "d", "--peer-listen", "127.0.0.1:0"});
  Child open(args, folder / "open.log");
  REQUIRE(eventually([&] {
    std::ifstream log(folder / "open.log");
    const std::string text((std::istreambuf_iterator<char>(log)), {});
    return text.find("ready in") != std::string::npos;
  }));
  CHECK(open.end(SIGTERM) == 0);
}
