#pragma once
// Links in what a proxied pod answers: those to the pod itself get the prefix of the proxy, so that a browser
// comes back by it. The header Location, and attributes of HTML that hold a URL (upstream
// k8s.io/apimachinery/pkg/util/proxy/transport.go). Pure.
//
// The page is rewritten as it comes, in one pass: a scanner of tags (HTML living standard section 13.2.5, as
// far as it tells where attributes begin and end) holds back one unfinished tag at most; everything but the
// values of those attributes passes byte by byte as it was. Text of scripts and styles is not looked into.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace orchestra::apiserver {

struct LinkBase {
  std::string prefix;              ///< ".../pods/web/proxy"
  std::vector<std::string> hosts;  ///< "web:8080", "10.1.2.3:8080": names that the pod has for itself
  std::string asked_host;          ///< what the client calls this server
};

/// `link` as the client has to ask for it. Relative ones, those to other hosts and those that have the prefix
/// stay as they are.
std::string proxied_link(const LinkBase& base, std::string_view link);

class HtmlLinks {
 public:
  /// A longer tag passes as it is.
  static constexpr std::size_t kTagBytesMax = 64 << 10;

  explicit HtmlLinks(LinkBase base) : base_(std::move(base)) {}
  /// What can go out now.
  std::string feed(std::string_view bytes);
  /// The page is over: what was held back.
  std::string finish();

 private:
  enum class Where : std::uint8_t { text, tag, comment, markup, raw };
  enum class Part : std::uint8_t { name, between, attribute, equals, value, quoted, bare };
  /// Offsets from the tag's '<'.
  struct Attribute {
    std::size_t name = 0, name_end = 0, value = 0, value_end = 0;
  };
  bool step();
  bool begin_markup(std::size_t at);
  bool scan_tag();
  bool scan_byte(char c);
  void end_tag();
  void rewrite_tag(std::string_view tag, std::string_view name);
  bool pass_comment();
  bool pass_raw();
  void pass(std::size_t end);
  std::string_view rest() const { return std::string_view(buffer_).substr(at_); }

  const LinkBase base_;
  std::string buffer_, out_;
  std::size_t at_ = 0;  ///< what lies before it has gone out
  Where where_ = Where::text;
  // Of the tag in progress.
  Part part_ = Part::name;
  std::size_t scan_ = 0, name_end_ = 0;
  char quote_ = 0;
  std::vector<Attribute> attributes_;
  std::string raw_;  ///< the element whose end tag ends Where::raw
};

}  // namespace orchestra::apiserver
