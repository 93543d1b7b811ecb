// Commands under arbitrary bytes: what decodes encodes to bytes that decode to the same, and applies without
// harm.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "store/mvcc/command_codec.hpp"
#include "store/mvcc/state.hpp"
#include "store/txn_text.hpp"

// Transactions as text: read or refused, never harmful.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra::store;
  (void)parse_txn({reinterpret_cast<const char*>(data), size});
  const auto command = decode_command({reinterpret_cast<const char*>(data), size});
  if (!command) return 0;
  const std::string bytes = encode_command(*command);
  const auto again = decode_command(bytes);
  if (!again || encode_command(*again) != bytes) std::abort();
  if (const auto* txn = std::get_if<orchestra::Txn>(&*command); txn != nullptr && !check_txn(*txn, {}))
    return 0;
  MvccState state;
  (void)state.apply(*command);
  state.tree().check();
  return 0;
}
