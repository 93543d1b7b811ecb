// Links of a proxied page in arbitrary HTML: wherever the page is cut the result is the same, and without a
// prefix every byte is as it was.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "apiserver/streams/proxy_links.hpp"

namespace {
using namespace orchestra::apiserver;

std::string rewrite(const LinkBase& base, std::string_view page, std::size_t step) {
  HtmlLinks links(base);
  std::string out;
  for (std::size_t at = 0; at < page.size(); at += step) out += links.feed(page.substr(at, step));
  return out + links.finish();
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view page(reinterpret_cast<const char*>(data), size);
  const LinkBase base{"/p", {"web:80"}, "asked"};
  const std::string whole = rewrite(base, page, size + 1);
  if (rewrite(base, page, 1) != whole || rewrite(base, page, 7) != whole) std::abort();
  if (rewrite({"", {}, ""}, page, size + 1) != page) std::abort();
  if (proxied_link(base, page).size() > page.size() + base.prefix.size()) std::abort();
  return 0;
}
