// The HTTP/1 reader under arbitrary bytes: cut at any place it says the same; what it accepts can be passed
// on and is then accepted again, with the same framing.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "net/http/body.hpp"
#include "net/http/head.hpp"
#include "net/ingress/forwarding.hpp"
#include "net/ingress/path.hpp"

namespace {

using namespace orchestra::http;

struct Whole {
  HeadResult result;
  Head head;
};

Whole read_request(std::string_view input, std::size_t piece) {
  Whole out;
  HeadScanner scanner;
  for (std::size_t end = 0; end < input.size() && out.result.state == HeadState::incomplete;) {
    end = std::min(end + piece, input.size());
    out.result = scanner.scan(input.substr(0, end), {});
  }
  if (out.result.state == HeadState::complete) {
    out.result = parse_request_head(input.substr(0, scanner.bytes()), {}, out.head);
  }
  return out;
}

struct Body {
  std::string data;
  bool done = false, failed = false;
};

Body read_body(const Head& head, std::string_view input, std::size_t piece) {
  Body out;
  BodyDecoder decoder(head.framing, head.content_length);
  std::string buffered;
  while (!out.done && !out.failed && (!input.empty() || !buffered.empty())) {
    if (buffered.empty()) {
      buffered = input.substr(0, piece);
      input.remove_prefix(buffered.size());
    }
    const auto step = decoder.decode(buffered);
    if (step.consumed > buffered.size()) std::abort();
    out.data += step.data;
    out.done = step.done;
    out.failed = step.error != nullptr;
    buffered.erase(0, step.consumed);
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const Whole whole = read_request(input, input.size() + 1);
  for (const std::size_t piece : {std::size_t{1}, std::size_t{7}}) {
    const Whole cut = read_request(input, piece);
    if (cut.result.state != whole.result.state) std::abort();
  }
  if (whole.result.state != HeadState::complete) return 0;
  const std::string_view rest = input.substr(whole.head.bytes);
  const Body body = read_body(whole.head, rest, rest.size() + 1), bytewise = read_body(whole.head, rest, 1);
  if (body.data != bytewise.data || body.done != bytewise.done || body.failed != bytewise.failed)
    std::abort();
  const auto target = orchestra::ingress::read_target(whole.head.target);
  if (!target) return 0;
  const std::string path = target->path;
  if (orchestra::ingress::normalize_path(path) != path) std::abort();  // one form, for good
  const std::string text = target->text();
  const std::string out = orchestra::ingress::upstream_head(
      whole.head, text, {.client_ip = "10.0.0.1", .host = "h", .port = "80"});
  const Whole again = read_request(out, out.size() + 1);
  const bool grown = again.result.status == 431 || again.result.status == 414;
  if (grown) return 0;
  if (again.result.state != HeadState::complete || again.head.bytes != out.size()) std::abort();
  if (again.head.framing != whole.head.framing || again.head.content_length != whole.head.content_length)
    std::abort();
  return 0;
}
