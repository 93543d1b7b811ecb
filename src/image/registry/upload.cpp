// The states of an upload: begun at a location, `offset` bytes there, closed by PUT.
#include "image/registry/upload.hpp"

#include <algorithm>
#include <charconv>

namespace orchestra::image {
namespace {

constexpr int kResumesMax = 5;
/// Up to here one PUT is both piece and end: half the requests for small blobs.
constexpr std::uint64_t kMonolithicMax = 4 << 20;

std::string header_of(const HttpResponse& answer, const char* name) {
  const auto found = answer.headers.find(name);
  return found == answer.headers.end() ? std::string() : found->second;
}

class Upload {
 public:
  Upload(RegistrySession& session, const UploadContent& content, const UploadOptions& options)
      : session_(session), content_(content), options_(options) {}

  Result<Uploaded> run() {
    ORC_ASSIGN(const bool there, exists());
    if (there) return Uploaded::existed;
    for (const std::string& from : options_.mount_from) {
      if (from == session_.target().repository) continue;
      ORC_ASSIGN(const bool mounted, begin(from));
      if (mounted) return Uploaded::mounted;
      if (!location_.empty()) break;  // 202: an ordinary upload has begun
    }
    if (location_.empty()) ORC_TRY(begin(""));
    auto sent = send_all();
    if (!sent) {
      abandon();
      return sent.error();
    }
    return Uploaded::sent;
  }

 private:
  Result<bool> exists() {
    RegistryRequest head = request("HEAD", "/blobs/" + content_.digest);
    head.also_good = {404};
    ORC_ASSIGN(const HttpResponse answer, session_.send(head));
    return answer.status != 404;
  }

  static RegistryRequest request(const std::string& method, const std::string& path) {
    RegistryRequest out;
    out.method = method;
    out.path = path;
    out.push = true;
    return out;
  }

  /// POST; with `from` also a mount. True: mounted. A mount that is refused leaves no location.
  Result<bool> begin(const std::string& from) {
    std::string path = "/blobs/uploads/";
    if (!from.empty()) path += "?mount=" + content_.digest + "&from=" + from;
    // A registry computes digests of the default algorithm unless it is told before.
    if (from.empty() && content_.digest.starts_with("sha512:")) path += "?digest-algorithm=sha512";
    RegistryRequest post = request("POST", path);
    post.headers.emplace_back("Content-Length", "0");
    if (!from.empty()) post.also_good = {400, 401, 403, 404, 405};
    ORC_ASSIGN(const HttpResponse answer, session_.send(post));
    if (answer.status == 201) return true;
    if (answer.status != 202) return false;
    ORC_TRY(take_location(answer));
    if (location_.empty()) {
      return Error(Error::corrupt, "image",
                   "registry " + session_.target().host + " began an upload without a Location");
    }
    const std::string least = header_of(answer, "oci-chunk-min-length");
    std::from_chars(least.data(), least.data() + least.size(), chunk_min_);
    return false;
  }

  Result<void> take_location(const HttpResponse& answer) {
    const std::string location = header_of(answer, "location");
    if (!location.empty()) location_ = session_.absolute_url(location, answer.url);
    return {};
  }

  std::string closing_location() const {
    return location_ + (location_.find('?') == std::string::npos ? "?" : "&") + "digest=" + content_.digest;
  }

  Result<void> set_body(RegistryRequest& put, std::uint64_t offset, std::uint64_t size) {
    put.body_size = size;
    put.body_source = [this, offset, size] { return content_.open(offset, size); };
    put.headers.emplace_back("Content-Type", "application/octet-stream");
    put.once = true;
    return {};
  }

  Result<void> send_all() {
    for (int resumes = 0;;) {
      auto done = content_.size <= kMonolithicMax && offset_ == 0 && options_.chunk_bytes == 0 ? put_whole()
                                                                                               : send_rest();
      if (done) return done;
      if (!is_worth_resuming(done.error()) || ++resumes > kResumesMax) return done;
      ORC_TRY(find_offset());
    }
  }

  static bool is_worth_resuming(const Error& error) {
    return error.is(Error::unavailable) || error.is(Error::io) || error.is(Error::deadline_exceeded) ||
           error.is(Error::unknown_outcome) || error.is(Error::conflict);
  }

  Result<void> put_whole() {
    RegistryRequest put = request("PUT", closing_location());
    ORC_TRY(set_body(put, 0, content_.size));
    ORC_TRY(session_.send(put));
    return {};
  }

  /// Pieces from offset_ on, then the closing PUT.
  Result<void> send_rest() {
    while (offset_ < content_.size) {
      const std::uint64_t left = content_.size - offset_;
      const std::uint64_t step =
          options_.chunk_bytes == 0 ? left : std::min(left, std::max(options_.chunk_bytes, chunk_min_));
      RegistryRequest patch = request("PATCH", location_);
      ORC_TRY(set_body(patch, offset_, step));
      // All in one from the start is the form that every registry takes: without a range.
      if (offset_ > 0 || step < left) {
        patch.headers.emplace_back("Content-Range",
                                   std::to_string(offset_) + "-" + std::to_string(offset_ + step - 1));
      }
      patch.also_good = {416};
      ORC_ASSIGN(const HttpResponse answer, session_.send(patch));
      if (answer.status == 416)
        return Error(Error::conflict, "image", "the registry is at another place of the upload");
      ORC_TRY(take_location(answer));
      offset_ += step;
    }
    RegistryRequest put = request("PUT", closing_location());
    put.headers.emplace_back("Content-Length", "0");
    put.once = true;
    ORC_TRY(session_.send(put));
    return {};
  }

  /// Asks how far the upload is. An upload that the registry has forgotten begins again; one that was
  /// closed although its answer was lost is found by its digest.
  Result<void> find_offset() {
    RegistryRequest get = request("GET", location_);
    get.also_good = {404};
    ORC_ASSIGN(const HttpResponse answer, session_.send(get));
    if (answer.status == 404) {
      ORC_ASSIGN(const bool there, exists());
      if (there) {
        offset_ = content_.size;
        return {};
      }
      location_.clear();
      offset_ = 0;
      ORC_TRY(begin(""));
      return {};
    }
    ORC_TRY(take_location(answer));
    const std::string range = header_of(answer, "range");
    const auto have = range.empty() ? std::optional<std::uint64_t>(0) : parse_upload_range(range);
    if (!have || *have > content_.size) {
      return Error(Error::corrupt, "image",
                   "registry " + session_.target().host + " says it has \"" + range + "\" of an upload of " +
                       std::to_string(content_.size) + " bytes");
    }
    offset_ = *have;
    return {};
  }

  void abandon() {
    if (location_.empty()) return;
    RegistryRequest remove = request("DELETE", location_);
    remove.once = true;
    (void)session_.send(remove);
  }

  RegistrySession& session_;
  const UploadContent& content_;
  const UploadOptions& options_;
  std::string location_;
  std::uint64_t offset_ = 0, chunk_min_ = 0;
};

}  // namespace

std::optional<std::uint64_t> parse_upload_range(std::string_view text) {
  if (text.starts_with("bytes=")) text.remove_prefix(6);
  if (!text.starts_with("0-")) return std::nullopt;
  text.remove_prefix(2);
  std::uint64_t last = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), last);
  if (error != std::errc() || end != text.data() + text.size() || last == UINT64_MAX) return std::nullopt;
  // docker-registry says 0-0 for an upload that holds nothing.
  return last == 0 ? 0 : last + 1;
}

Result<Uploaded> upload_blob(RegistrySession& session, const UploadContent& content,
                             const UploadOptions& options) {
  for (const std::string& from : options.mount_from) {
    if (from != session.target().repository) session.add_scope(from);
  }
  return Upload(session, content, options).run();
}

}  // namespace orchestra::image
