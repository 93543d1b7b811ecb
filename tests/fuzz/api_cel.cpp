// CEL: any text compiles or is refused, and what compiles ends within its budget.
#include <cstdint>
#include <string_view>

#include "api/cel/program.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra;
  static const json::value kSelf = parse_json(R"({"a":1,"b":{"c":["x","y"]},"s":"text"})").value();
  auto program = api::cel::Program::compile({reinterpret_cast<const char*>(data), size}, {"self"});
  if (!program) return 0;
  api::cel::Context context;
  context.budget = 20'000;
  (void)program->evaluate({{"self", api::cel::from_json(kSelf)}}, context);
  return 0;
}
