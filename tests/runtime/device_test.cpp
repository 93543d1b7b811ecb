// Device rules as an eBPF program: the program is run here, instruction by instruction, against plain rules.
#include <sys/stat.h>

#include "runtime/linux/device_filter.hpp"
#include "tests/support/test.hpp"

namespace orchestra::test {
namespace {
using Rule = ContainerSpec::DeviceRule;
constexpr std::uint32_t kMake = BPF_DEVCG_ACC_MKNOD, kRead = BPF_DEVCG_ACC_READ, kWrite = BPF_DEVCG_ACC_WRITE;
constexpr std::uint32_t kBlock = BPF_DEVCG_DEV_BLOCK, kChar = BPF_DEVCG_DEV_CHAR;

/// The few instructions that the program uses; anything else fails the test.
bool allows(const std::vector<bpf_insn>& program, std::uint32_t kind, std::uint32_t access,
            std::uint32_t major, std::uint32_t minor) {
  const std::uint32_t context[3] = {access << 16 | kind, major, minor};
  std::uint64_t r[11] = {};
  for (std::size_t at = 0; at < program.size(); ++at) {
    const bpf_insn& one = program[at];
    const auto value = static_cast<std::uint32_t>(one.imm);
    switch (one.code) {
      case BPF_LDX | BPF_MEM | BPF_W:
        r[one.dst_reg] = context[one.off / 4];
        break;
      case BPF_ALU | BPF_MOV | BPF_X:
        r[one.dst_reg] = static_cast<std::uint32_t>(r[one.src_reg]);
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        r[one.dst_reg] = static_cast<std::uint32_t>(r[one.dst_reg]) & value;
        break;
      case BPF_ALU | BPF_RSH | BPF_K:
        r[one.dst_reg] = static_cast<std::uint32_t>(r[one.dst_reg]) >> value;
        break;
      case BPF_ALU64 | BPF_MOV | BPF_K:
        r[one.dst_reg] = value;
        break;
      case BPF_JMP | BPF_JNE | BPF_K:
        if (r[one.dst_reg] != value) at += static_cast<std::size_t>(one.off);
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        if (r[one.dst_reg] == value) at += static_cast<std::size_t>(one.off);
        break;
      case BPF_JMP | BPF_EXIT:
        return r[0] != 0;
      default:
        FAIL("instruction ", int{one.code});
        return false;
    }
  }
  FAIL("the program has no end");
  return false;
}
}  // namespace

TEST_CASE("device program: the last rule that speaks of an access decides, bit for bit") {
  const Rule deny_all{false, 'a', {}, {}, "rwm"};
  const auto none = runtime::device_program({});
  CHECK(allows(none, kChar, kRead, 1, 3));
  const auto base = runtime::device_program(
      {deny_all, {true, 'c', {}, {}, "m"}, {true, 'c', 1, 3, "rwm"}, {true, 'c', 136, {}, "rw"}});
  CHECK(allows(base, kChar, kRead | kWrite, 1, 3));
  CHECK(allows(base, kChar, kMake, 5, 1));
  CHECK_FALSE(allows(base, kBlock, kMake, 8, 0));
  CHECK_FALSE(allows(base, kChar, kRead, 1, 11));
  CHECK(allows(base, kChar, kRead, 136, 77));
  CHECK(allows(base, kChar, kRead | kMake, 136, 77));  // m by the one rule, r by the other
  const auto split = runtime::device_program({deny_all, {true, 'c', 1, 5, "r"}, {true, 'c', 1, 5, "w"}});
  CHECK(allows(split, kChar, kRead | kWrite, 1, 5));
  CHECK_FALSE(allows(split, kChar, kRead | kWrite | kMake, 1, 5));
  const auto taken =
      runtime::device_program({deny_all, {true, 'a', {}, {}, "rwm"}, {false, 'b', 8, {}, "w"}});
  CHECK(allows(taken, kBlock, kRead, 8, 1));
  CHECK_FALSE(allows(taken, kBlock, kRead | kWrite, 8, 1));
  CHECK(allows(taken, kChar, kRead | kWrite, 8, 1));
}

}  // namespace orchestra::test
