// The grammar of image references, written as small predicates over string views.
//
//   reference = name [":" tag] ["@" digest]        name = [host "/"] component *("/" component)
//   component = [a-z0-9]+ joined by "." "_" "__" or a run of "-"
// Invariant: parse(canonical(r)) == r, and parse(familiar(r)) == r, for every r with a tag or a digest.
#include <algorithm>

#include "image/digest.hpp"
#include "orchestra/image_reference.hpp"

namespace orchestra {
namespace {

constexpr std::size_t kNameBytesMax = 255;
constexpr std::size_t kTagBytesMax = 128;
constexpr std::string_view kDefaultHost = "docker.io";

bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_number(char c) { return c >= '0' && c <= '9'; }
bool is_word(char c) { return is_lower(c) || is_upper(c) || is_number(c) || c == '_'; }
bool has_upper(std::string_view text) { return std::any_of(text.begin(), text.end(), is_upper); }

std::string lowered(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (is_upper(c)) c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

/// [a-z0-9]+ joined by one of: "." "_" "__" "-" "--" ...
bool is_path_component(std::string_view text) {
  std::size_t i = 0;
  const auto run = [&] {
    const std::size_t start = i;
    while (i < text.size() && (is_lower(text[i]) || is_number(text[i]))) ++i;
    return i > start;
  };
  if (!run()) return false;
  while (i < text.size()) {
    if (text[i] == '.') {
      ++i;
    } else if (text[i] == '_') {
      ++i;
      if (i < text.size() && text[i] == '_') ++i;
    } else if (text[i] == '-') {
      while (i < text.size() && text[i] == '-') ++i;
    } else {
      return false;
    }
    if (!run()) return false;
  }
  return true;
}

bool is_host_name(std::string_view text) {
  if (text.empty()) return false;
  std::size_t start = 0;
  while (true) {
    const std::size_t dot = std::min(text.find('.', start), text.size());
    const std::string_view label = text.substr(start, dot - start);
    if (label.empty() || label.front() == '-' || label.back() == '-') return false;
    const bool good = std::all_of(label.begin(), label.end(), [](char c) {
      return is_lower(c) || is_upper(c) || is_number(c) || c == '-';
    });
    if (!good) return false;
    if (dot == text.size()) return true;
    start = dot + 1;
  }
}

/// NAME, NAME:PORT, [V6] or [V6]:PORT
bool is_host(std::string_view text) {
  std::string_view port;
  if (!text.empty() && text.front() == '[') {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos || close == 1) return false;
    const std::string_view address = text.substr(1, close - 1);
    const bool good = std::all_of(address.begin(), address.end(), [](char c) {
      return is_number(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || c == ':';
    });
    if (!good) return false;
    if (close + 1 == text.size()) return true;
    if (text[close + 1] != ':') return false;
    port = text.substr(close + 2);
  } else {
    const std::size_t colon = text.find(':');
    if (!is_host_name(text.substr(0, colon))) return false;
    if (colon == std::string_view::npos) return true;
    port = text.substr(colon + 1);
  }
  return !port.empty() && std::all_of(port.begin(), port.end(), is_number);
}

bool is_tag(std::string_view text) {
  if (text.empty() || text.size() > kTagBytesMax || !is_word(text.front())) return false;
  return std::all_of(text.begin(), text.end(), [](char c) { return is_word(c) || c == '.' || c == '-'; });
}

Error bad(std::string_view reference, const std::string& why) {
  return Error(Error::invalid, "image", "invalid image name \"" + std::string(reference) + "\": " + why);
}

bool names_a_host(std::string_view first) {
  return first.find_first_of(".:") != std::string_view::npos || first.starts_with('[') ||
         first == "localhost" || has_upper(first);
}

}  // namespace

Result<ImageReference> ImageReference::parse(std::string_view text) {
  if (text.empty()) return bad(text, "it is empty");
  for (const std::string_view scheme : {"http://", "https://", "docker://", "oci://"}) {
    if (text.starts_with(scheme)) {
      return bad(
          text, "leave out " + std::string(scheme) + ": \"" + std::string(text.substr(scheme.size())) + "\"");
    }
  }
  const bool blank =
      std::any_of(text.begin(), text.end(), [](unsigned char c) { return c <= ' ' || c == 0x7f; });
  if (blank) return bad(text, "it holds a space or a control character");

  ImageReference out;
  std::string_view rest = text;
  if (const std::size_t at = rest.find('@'); at != std::string_view::npos) {
    const std::string_view digest = rest.substr(at + 1);
    if (auto checked = image::check_digest(digest); !checked) return bad(text, checked.error().message());
    out.digest_ = digest;
    rest = rest.substr(0, at);
  }
  // A colon after the last slash begins the tag; an earlier one belongs to the host.
  const std::size_t slash = rest.rfind('/');
  const std::size_t colon = rest.find(':', slash == std::string_view::npos ? 0 : slash);
  if (colon != std::string_view::npos) {
    const std::string_view tag = rest.substr(colon + 1);
    if (tag.empty()) return bad(text, "the tag after ':' is empty");
    if (tag.size() > kTagBytesMax) return bad(text, "the tag is longer than 128 characters");
    if (!is_tag(tag))
      return bad(text, "the tag \"" + std::string(tag) + "\" may hold only letters, digits, _ . -");
    out.tag_ = tag;
    rest = rest.substr(0, colon);
  }
  if (rest.empty()) return bad(text, "the name is empty");
  if (rest.size() == 64 && image::is_digest("sha256:" + std::string(rest))) {
    return bad(text, "64 hex digits alone are ambiguous with an image id");
  }

  const std::size_t first = rest.find('/');
  if (first != std::string_view::npos && names_a_host(rest.substr(0, first))) {
    out.host_ = rest.substr(0, first);
    out.path_ = rest.substr(first + 1);
    if (!is_host(out.host_)) return bad(text, "\"" + out.host_ + "\" is no host[:port]");
  } else {
    out.host_ = kDefaultHost;
    out.path_ = rest;
  }
  if (out.host_ == "index.docker.io") out.host_ = kDefaultHost;
  if (out.host_ == kDefaultHost && out.path_.find('/') == std::string::npos)
    out.path_ = "library/" + out.path_;

  if (has_upper(out.path_)) {
    return bad(text, "a repository name must be in lower case: \"" + lowered(out.path_) + "\"");
  }
  for (std::size_t start = 0; start <= out.path_.size();) {
    const std::size_t end = std::min(out.path_.find('/', start), out.path_.size());
    const std::string component = out.path_.substr(start, end - start);
    if (!is_path_component(component)) {
      return bad(text, component.empty()
                           ? "it has an empty path component"
                           : "\"" + component + "\" must be [a-z0-9] runs joined by . _ __ or -");
    }
    start = end + 1;
  }
  if (out.name().size() > kNameBytesMax) return bad(text, "the name is longer than 255 characters");
  if (out.tag_.empty() && out.digest_.empty()) out.tag_ = "latest";
  return out;
}

std::string ImageReference::canonical() const {
  return digest_.empty() ? name() + ":" + tag_ : pinned(digest_);
}

std::string ImageReference::familiar() const {
  std::string out = name();
  if (host_ == kDefaultHost) {
    out = path_.starts_with("library/") && path_.find('/', 8) == std::string::npos ? path_.substr(8) : path_;
    // "docker.io/a.b/c" must not turn into the host "a.b".
    const std::size_t slash = out.find('/');
    if (slash != std::string::npos && names_a_host(std::string_view(out).substr(0, slash))) out = name();
    if (out.size() == 64) out = name();
  }
  if (!tag_.empty()) out += ":" + tag_;
  if (!digest_.empty()) out += "@" + digest_;
  return out;
}

std::string ImageReference::pinned(std::string_view digest) const {
  return name() + "@" + std::string(digest);
}

std::string ImageReference::api_host() const {
  return host_ == kDefaultHost ? "registry-1.docker.io" : host_;
}

ImageReference ImageReference::with_digest(std::string digest) const {
  ImageReference out = *this;
  out.digest_ = std::move(digest);
  return out;
}

}  // namespace orchestra
