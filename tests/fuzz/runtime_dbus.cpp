// What the service manager sends: whole messages, and values of any type.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "runtime/systemd/dbus.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string buffer(reinterpret_cast<const char*>(data), size);
  while (true) {
    const std::size_t before = buffer.size();
    auto message = orchestra::runtime::take_dbus(buffer);
    if (!message || !message->has_value()) return 0;
    if (buffer.size() >= before) std::abort();  // a message takes bytes
    auto reader = (*message)->reader();
    std::string_view type = (*message)->signature;
    reader.skip(type);
    auto texts = (*message)->reader();
    while (!texts.at_end()) (void)texts.text();
    // What was understood can be written, and is read as the same.
    std::string again = orchestra::runtime::encode_dbus(**message);
    auto second = orchestra::runtime::take_dbus(again);
    if (!second || !second->has_value() || (*second)->path != (*message)->path ||
        (*second)->body != (*message)->body)
      std::abort();
  }
}
