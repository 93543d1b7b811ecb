// An Accept header and label values from outside: whatever they hold, the page stays a page.
#include <cstdint>
#include <cstdlib>

#include "metrics/exposition.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const MetricsFormat format = metrics_format(text);
  std::string line;
  metrics::write_sample(line, format, "name", "", metrics::label_text({{"label", text}}), "", 1.0);
  // One line, which ends where it should: every quote and line break inside is escaped.
  if (line.find('\n') != line.size() - 1) std::abort();
  bool inside = false;
  for (std::size_t at = 0; at < line.size(); ++at) {
    if (line[at] == '\\') {
      ++at;
    } else if (line[at] == '"') {
      inside = !inside;
    } else if (!inside && line[at] == '}' && line.substr(at) != "} 1\n") {
      std::abort();
    }
  }
  if (inside) std::abort();
  return 0;
}
