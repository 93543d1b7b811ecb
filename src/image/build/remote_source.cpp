// URLs by the HTTP client, repositories by the machine's git, see remote_source.hpp.
#include "image/build/remote_source.hpp"

#include <fcntl.h>

#include "base/fd.hpp"
#include "image/digest.hpp"

namespace orchestra::image {
namespace {

constexpr Duration kFetchDeadline = std::chrono::minutes(30);
constexpr std::uint64_t kFileBytesMax = std::uint64_t{8} << 30;

bool starts(std::string_view text, std::initializer_list<std::string_view> prefixes) {
  for (const std::string_view prefix : prefixes) {
    if (text.starts_with(prefix)) return true;
  }
  return false;
}

}  // namespace

SourceKind kind_of_source(std::string_view source) {
  const std::string_view address = source.substr(0, source.find('#'));
  if (starts(source, {"git@", "git://", "ssh://"})) return SourceKind::git;
  const bool is_url = starts(source, {"http://", "https://"});
  if ((is_url || source.starts_with("file://")) && address.ends_with(".git")) return SourceKind::git;
  return is_url ? SourceKind::url : SourceKind::local;
}

Result<RemoteSource> fetch_url(HttpClient& http, const std::string& url, const std::string& checksum,
                               const std::string& into) {
  std::string path = url.substr(0, url.find_first_of("?#"));
  RemoteSource out;
  out.folder = into;
  out.name = path.substr(path.rfind('/') + 1);
  if (out.name.empty() || path.find("://") + 3 > path.rfind('/')) out.name = "index";
  if (out.name == "." || out.name == "..") return Error(Error::invalid, "image", url + " names no file");
  if (!checksum.empty()) ORC_TRY(check_digest(checksum));
  ORC_TRY(make_directories(into, 0700));
  ORC_ASSIGN(const Fd file, open_file(into + "/" + out.name, O_WRONLY | O_CREAT | O_EXCL, 0600));
  Hasher hasher(checksum.empty() ? "sha256" : digest_algorithm(checksum));
  HttpRequest request;
  request.url = url;
  request.redirects_max = 5;
  int status = 0;
  request.on_headers = [&status](int code, const std::map<std::string, std::string>&) {
    status = code;
    return Result<void>();
  };
  request.on_body = [&](std::string_view bytes) -> Result<void> {
    if (status != 200) return {};
    hasher.update(bytes);
    if (hasher.bytes() > kFileBytesMax) return Error(Error::too_large, "image", url + " is over 8 GiB");
    return write_all(file.get(), bytes);
  };
  const std::string shown = url.substr(0, url.find('?'));
  auto answer = http.send(std::move(request)).wait(kFetchDeadline);
  if (!answer) return answer.error().with_context("ADD " + shown);
  if (answer->status != 200) {
    return Error(answer->status == 404 ? Error::not_found : Error::unavailable, "image",
                 "ADD " + shown + ": the server answered " + std::to_string(answer->status));
  }
  const std::string actual = hasher.finish();
  if (!checksum.empty() && actual != checksum) {
    return Error(Error::corrupt, "image", "ADD " + shown + ": its digest is " + actual + ", not " + checksum);
  }
  return out;
}

Result<RemoteSource> fetch_git(Spawner& spawner, const std::string& address, bool keep_git,
                               const std::string& into) {
  const std::size_t hash = address.find('#');
  const std::string repository = address.substr(0, hash);
  std::string reference = hash == std::string::npos ? "" : address.substr(hash + 1), folder;
  if (const std::size_t colon = reference.find(':'); colon != std::string::npos) {
    folder = reference.substr(colon + 1);
    reference.resize(colon);
  }
  if (reference.starts_with('-') || folder.find("..") != std::string::npos)
    return Error(Error::invalid, "image", "\"" + address + "\" names no reference and folder of git");
  const auto git = [&](std::vector<std::string> args) -> Result<void> {
    SpawnRequest request;
    request.args = {"git"};
    request.args.insert(request.args.end(), args.begin(), args.end());
    // Nothing of this machine's or a person's settings, and no questions on a terminal.
    request.env = {"PATH=/usr/local/bin:/usr/bin:/bin", "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1",
                   "GIT_CONFIG_GLOBAL=/dev/null", "HOME=/nonexistent"};
    request.deadline = kFetchDeadline;
    ORC_ASSIGN(const SpawnResult ended, spawner.run(request).wait(kFetchDeadline + std::chrono::minutes(1)));
    if (ended.exit_code == 0) return {};
    return Error(Error::unavailable, "image",
                 "git " + args.front() + " of " + repository + " ended with status " +
                     std::to_string(ended.exit_code) + ": " + ended.errors.substr(0, 500));
  };
  ORC_TRY(make_directories(into, 0700));
  const std::string tree = into + "/tree";
  ORC_TRY(git({"init", "-q", tree}));
  ORC_TRY(git(
      {"-C", tree, "fetch", "-q", "--depth", "1", "--", repository, reference.empty() ? "HEAD" : reference}));
  ORC_TRY(git({"-C", tree, "checkout", "-q", "FETCH_HEAD"}));
  if (!keep_git) ORC_TRY(remove_tree(tree + "/.git"));
  RemoteSource out;
  out.folder = folder.empty() ? tree : tree + "/" + folder;
  return out;
}

}  // namespace orchestra::image
