// Links of proxied pages: see proxy_links.hpp.
#include "apiserver/streams/proxy_links.hpp"

#include <algorithm>

#include "apiserver/text.hpp"

namespace orchestra::apiserver {
namespace {

struct LinkAttribute {
  std::string_view tag, attribute;
};
constexpr LinkAttribute kLinks[] = {
    {"a", "href"},          {"applet", "codebase"}, {"area", "href"},       {"audio", "src"},
    {"base", "href"},       {"blockquote", "cite"}, {"body", "background"}, {"button", "formaction"},
    {"command", "icon"},    {"del", "cite"},        {"embed", "src"},       {"form", "action"},
    {"frame", "longdesc"},  {"frame", "src"},       {"head", "profile"},    {"html", "manifest"},
    {"iframe", "longdesc"}, {"iframe", "src"},      {"img", "longdesc"},    {"img", "src"},
    {"img", "usemap"},      {"input", "src"},       {"input", "usemap"},    {"input", "formaction"},
    {"ins", "cite"},        {"link", "href"},       {"object", "classid"},  {"object", "codebase"},
    {"object", "data"},     {"object", "usemap"},   {"q", "cite"},          {"script", "src"},
    {"source", "src"},      {"video", "poster"},    {"video", "src"},
};
/// Elements whose content is text up to their end tag.
constexpr std::string_view kRawElements[] = {"iframe", "noembed",  "noframes", "plaintext", "script",
                                             "style",  "textarea", "title",    "xmp"};

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f'; }

/// "http" of "http://x/"; empty: none.
std::string_view scheme_of(std::string_view link) {
  if (link.empty() || !is_letter(link[0])) return {};
  std::size_t end = 1;
  while (end < link.size() && (is_letter(link[end]) || (link[end] >= '0' && link[end] <= '9') ||
                               link[end] == '+' || link[end] == '-' || link[end] == '.'))
    ++end;
  return end < link.size() && link[end] == ':' ? link.substr(0, end) : std::string_view();
}

/// Where it stands inside of quotes, or bare, it neither ends the value nor the tag.
std::string escape_for_attribute(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace

std::string proxied_link(const LinkBase& base, std::string_view link) {
  const std::string same(link);
  if (std::any_of(link.begin(), link.end(), [](char c) { return static_cast<unsigned char>(c) < ' '; }))
    return same;
  const std::string_view scheme = scheme_of(link);
  std::string_view path = link.substr(scheme.empty() ? 0 : scheme.size() + 1), host;
  std::string_view front;  // scheme and host that stay
  if (path.starts_with("//") && (path.size() < link.size() || !path.starts_with("///"))) {
    const std::size_t end = std::min(path.find_first_of("/?#", 2), path.size());
    host = path.substr(2, end - 2);
    host.remove_prefix(host.rfind('@') + 1);  // npos + 1 is 0
    path.remove_prefix(end);
    if (host.empty()) return same;  // "//@/x" is of no host
    const bool asked = host == base.asked_host;
    const bool own = std::find(base.hosts.begin(), base.hosts.end(), host) != base.hosts.end();
    if (!asked && !own) return same;
    if (asked) front = link.substr(0, link.size() - path.size());
  }
  if (!path.starts_with('/') || (host.empty() && !scheme.empty())) return same;
  const bool done = path.starts_with(base.prefix);
  return std::string(front) + (done ? "" : base.prefix) + std::string(path);
}

std::string HtmlLinks::feed(std::string_view bytes) {
  buffer_ += bytes;
  while (step()) {
  }
  buffer_.erase(0, at_);
  at_ = 0;
  return std::exchange(out_, {});
}

std::string HtmlLinks::finish() {
  pass(buffer_.size());
  return std::exchange(out_, {});
}

void HtmlLinks::pass(std::size_t end) {
  out_.append(buffer_, at_, end - at_);
  at_ = end;
}

/// False: more has to come first.
bool HtmlLinks::step() {
  if (at_ == buffer_.size()) return false;
  switch (where_) {
    case Where::text: {
      pass(std::min(buffer_.find('<', at_), buffer_.size()));
      return begin_markup(at_);
    }
    case Where::tag:
      return scan_tag();
    case Where::comment:
      return pass_comment();
    case Where::raw:
      return pass_raw();
    case Where::markup:
      break;
  }
  const std::size_t end = buffer_.find('>', at_);
  pass(end == std::string::npos ? buffer_.size() : end + 1);
  if (end != std::string::npos) where_ = Where::text;
  return true;
}

bool HtmlLinks::begin_markup(std::size_t at) {
  constexpr std::string_view kComment = "<!--";
  const std::string_view text = std::string_view(buffer_).substr(at);
  if (text.size() < 2) return false;
  const bool closes = text[1] == '/';
  if (closes && text.size() < 3) return false;
  if (is_letter(text[1]) || (closes && is_letter(text[2]))) {
    where_ = Where::tag;
    part_ = Part::name;
    scan_ = closes ? 2 : 1;
    name_end_ = 0;
    attributes_.clear();
    return true;
  }
  if (text[1] == '!') {
    const std::string_view head = text.substr(0, kComment.size());
    if (head.size() < kComment.size() && kComment.starts_with(head)) return false;
    where_ = head == kComment ? Where::comment : Where::markup;
    pass(at + 2);  // "<!-->" is a whole comment
    return true;
  }
  if (text[1] == '?' || closes) {
    where_ = Where::markup;
    return true;
  }
  pass(at + 1);
  return true;
}

bool HtmlLinks::pass_comment() {
  constexpr std::string_view kEnd = "-->";
  const std::size_t end = buffer_.find(kEnd, at_);
  if (end == std::string::npos) {
    if (rest().size() < kEnd.size()) return false;
    pass(buffer_.size() - (kEnd.size() - 1));
    return false;
  }
  pass(end + kEnd.size());
  where_ = Where::text;
  return true;
}

bool HtmlLinks::pass_raw() {
  if (raw_ == "plaintext") {  // has no end
    pass(buffer_.size());
    return false;
  }
  pass(std::min(buffer_.find('<', at_), buffer_.size()));
  const std::string_view text = rest();
  const std::string end = "</" + raw_;
  const std::string head = to_lower(text.substr(0, end.size()));
  if (text.size() <= end.size() && end.starts_with(head)) return false;
  if (head == end && (is_space(text[end.size()]) || text[end.size()] == '/' || text[end.size()] == '>')) {
    where_ = Where::text;
    return true;
  }
  pass(at_ + 1);
  return true;
}

bool HtmlLinks::scan_tag() {
  const std::size_t size = rest().size();
  while (scan_ < size) {
    if (scan_ >= kTagBytesMax) {
      pass(at_ + scan_);
      where_ = Where::text;
      return true;
    }
    const bool ended = scan_byte(buffer_[at_ + scan_]);
    ++scan_;
    if (!ended) continue;
    end_tag();
    return true;
  }
  return false;
}

/// True: it was the tag's '>'.
bool HtmlLinks::scan_byte(char c) {
  switch (part_) {
    case Part::name:
      if (!is_space(c) && c != '/' && c != '>') return false;
      name_end_ = scan_;
      part_ = Part::between;
      return c == '>';
    case Part::between:
      if (c == '>') return true;
      if (is_space(c) || c == '/') return false;
      attributes_.push_back({scan_, scan_, 0, 0});
      part_ = Part::attribute;
      return false;
    case Part::attribute:
      if (!is_space(c) && c != '/' && c != '>' && c != '=') return false;
      attributes_.back().name_end = scan_;
      part_ = c == '=' ? Part::value : is_space(c) ? Part::equals : Part::between;
      return c == '>';
    case Part::equals:
      if (is_space(c)) return false;
      if (c == '=') {
        part_ = Part::value;
        return false;
      }
      part_ = Part::between;
      return scan_byte(c);
    case Part::value:
      if (is_space(c)) return false;
      if (c == '>') return true;
      attributes_.back().value = attributes_.back().value_end = scan_;
      part_ = Part::bare;
      if (c == '"' || c == '\'') {
        quote_ = c;
        ++attributes_.back().value;
        part_ = Part::quoted;
      }
      return false;
    case Part::quoted:
      if (c != quote_) return false;
      attributes_.back().value_end = scan_;
      part_ = Part::between;
      return false;
    case Part::bare:
      if (!is_space(c) && c != '>') return false;
      attributes_.back().value_end = scan_;
      part_ = Part::between;
      return c == '>';
  }
  return false;
}

void HtmlLinks::end_tag() {
  const std::string_view tag = rest().substr(0, scan_);
  where_ = Where::text;
  if (tag[1] == '/') return pass(at_ + scan_);
  const std::string name = to_lower(tag.substr(1, name_end_ - 1));
  rewrite_tag(tag, name);
  at_ += scan_;
  if (std::find(std::begin(kRawElements), std::end(kRawElements), name) != std::end(kRawElements)) {
    raw_ = name;
    where_ = Where::raw;
  }
}

void HtmlLinks::rewrite_tag(std::string_view tag, std::string_view name) {
  std::size_t done = 0;
  for (const Attribute& each : attributes_) {
    if (each.value_end <= each.value) continue;
    const std::string attribute = to_lower(tag.substr(each.name, each.name_end - each.name));
    const bool link = std::any_of(std::begin(kLinks), std::end(kLinks), [&](const LinkAttribute& known) {
      return known.tag == name && known.attribute == attribute;
    });
    if (!link) continue;
    LinkBase base = base_;
    base.prefix = escape_for_attribute(base_.prefix);
    out_ += tag.substr(done, each.value - done);
    out_ += proxied_link(base, tag.substr(each.value, each.value_end - each.value));
    done = each.value_end;
  }
  out_ += tag.substr(done);
}

}  // namespace orchestra::apiserver
