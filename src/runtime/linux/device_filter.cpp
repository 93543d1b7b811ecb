// struct bpf_cgroup_dev_ctx: access_type = (what is asked for << 16) | kind, major, minor. The answer is 1 or
// 0.
//
// Rules are walked from the last to the first. r6 holds the accesses that no rule has decided yet: a rule
// that allows takes its bits out and ends with 1 when none is left; one that denies ends with 0 when it hits
// a bit.
#include "runtime/linux/device_filter.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/fd.hpp"
#include "runtime/domain.hpp"

namespace orchestra::runtime {
namespace {
constexpr std::size_t kProgramsMax = 64;  ///< the kernel's limit of programs at one cgroup
constexpr std::uint8_t kKind = BPF_REG_2, kMajor = BPF_REG_4, kMinor = BPF_REG_5, kLeft = BPF_REG_6,
                       kScratch = BPF_REG_7;

bpf_insn instruction(int code, std::uint8_t to, std::uint8_t from, std::int16_t offset, std::int32_t value) {
  bpf_insn one{};
  one.code = static_cast<std::uint8_t>(code);
  one.dst_reg = to;
  one.src_reg = from;
  one.off = offset;
  one.imm = value;
  return one;
}
bpf_insn load(std::uint8_t to, std::size_t offset) {
  return instruction(BPF_LDX | BPF_MEM | BPF_W, to, BPF_REG_1, static_cast<std::int16_t>(offset), 0);
}
bpf_insn compute(int operation, std::uint8_t to, std::int32_t value) {
  return instruction(BPF_ALU | operation | BPF_K, to, 0, 0, value);
}
bpf_insn jump(int condition, std::uint8_t left, std::int32_t right, std::size_t over) {
  return instruction(BPF_JMP | condition | BPF_K, left, 0, static_cast<std::int16_t>(over), right);
}
void answer(std::vector<bpf_insn>& program, int value) {
  program.push_back(instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, value));
  program.push_back(instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
}

std::int32_t access_bits(const std::string& access) {
  std::int32_t bits = 0;
  for (const char c : access)
    bits |= c == 'm'   ? BPF_DEVCG_ACC_MKNOD
            : c == 'r' ? BPF_DEVCG_ACC_READ
            : c == 'w' ? BPF_DEVCG_ACC_WRITE
                       : 0;
  return bits;
}

/// What happens once the device is the rule's.
std::vector<bpf_insn> verdict(const ContainerSpec::DeviceRule& rule) {
  std::vector<bpf_insn> body;
  const std::int32_t bits = access_bits(rule.type == 'a' && rule.access.empty() ? "rwm" : rule.access);
  if (rule.allow) {
    body.push_back(compute(BPF_AND, kLeft, ~bits));
    body.push_back(jump(BPF_JNE, kLeft, 0, 2));
    answer(body, 1);
  } else {
    body.push_back(instruction(BPF_ALU | BPF_MOV | BPF_X, kScratch, kLeft, 0, 0));
    body.push_back(compute(BPF_AND, kScratch, bits));
    body.push_back(jump(BPF_JEQ, kScratch, 0, 2));
    answer(body, 0);
  }
  return body;
}

long bpf(int command, bpf_attr& attributes) {
  return syscall(SYS_bpf, command, &attributes, sizeof attributes);
}

Result<Fd> load_program(const std::vector<bpf_insn>& program) {
  static constexpr char kLicense[] = "Apache-2.0";
  bpf_attr attributes{};
  attributes.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  attributes.insns = reinterpret_cast<std::uint64_t>(program.data());
  attributes.insn_cnt = static_cast<std::uint32_t>(program.size());
  attributes.license = reinterpret_cast<std::uint64_t>(kLicense);
  Fd loaded(static_cast<int>(bpf(BPF_PROG_LOAD, attributes)));
  if (!loaded) return system_error(kDomain, "bpf(BPF_PROG_LOAD)", "device rules", errno);
  return loaded;
}

std::vector<std::uint32_t> attached_to(const Fd& cgroup) {
  std::array<std::uint32_t, kProgramsMax> ids{};
  bpf_attr attributes{};
  attributes.query.target_fd = static_cast<std::uint32_t>(cgroup.get());
  attributes.query.attach_type = BPF_CGROUP_DEVICE;
  attributes.query.prog_ids = reinterpret_cast<std::uint64_t>(ids.data());
  attributes.query.prog_cnt = kProgramsMax;
  if (bpf(BPF_PROG_QUERY, attributes) != 0) return {};
  return {ids.begin(), ids.begin() + std::min<std::size_t>(attributes.query.prog_cnt, kProgramsMax)};
}

void detach(const Fd& cgroup, std::uint32_t id) {
  bpf_attr by_id{};
  by_id.prog_id = id;
  const Fd program(static_cast<int>(bpf(BPF_PROG_GET_FD_BY_ID, by_id)));
  if (!program) return;
  bpf_attr attributes{};
  attributes.target_fd = static_cast<std::uint32_t>(cgroup.get());
  attributes.attach_bpf_fd = static_cast<std::uint32_t>(program.get());
  attributes.attach_type = BPF_CGROUP_DEVICE;
  (void)bpf(BPF_PROG_DETACH, attributes);
}
}  // namespace

std::vector<bpf_insn> device_program(const std::vector<ContainerSpec::DeviceRule>& rules) {
  std::vector<bpf_insn> program{
      load(kKind, offsetof(bpf_cgroup_dev_ctx, access_type)),
      instruction(BPF_ALU | BPF_MOV | BPF_X, kLeft, kKind, 0, 0),
      compute(BPF_AND, kKind, 0xffff),
      compute(BPF_RSH, kLeft, 16),
      load(kMajor, offsetof(bpf_cgroup_dev_ctx, major)),
      load(kMinor, offsetof(bpf_cgroup_dev_ctx, minor)),
  };
  for (auto rule = rules.rbegin(); rule != rules.rend(); ++rule) {
    const std::vector<bpf_insn> body = verdict(*rule);
    std::vector<std::pair<std::uint8_t, std::int32_t>> tests;
    if (rule->type != 'a') {
      tests.emplace_back(kKind, rule->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
      if (rule->major && *rule->major >= 0)
        tests.emplace_back(kMajor, static_cast<std::int32_t>(*rule->major));
      if (rule->minor && *rule->minor >= 0)
        tests.emplace_back(kMinor, static_cast<std::int32_t>(*rule->minor));
    }
    for (std::size_t i = 0; i < tests.size(); ++i)
      program.push_back(jump(BPF_JNE, tests[i].first, tests[i].second, tests.size() - i - 1 + body.size()));
    program.insert(program.end(), body.begin(), body.end());
  }
  answer(program, 1);
  return program;
}

Result<void> attach_device_program(const std::string& path,
                                   const std::vector<ContainerSpec::DeviceRule>& rules) {
  ORC_ASSIGN(const Fd cgroup, open_file(path, O_RDONLY | O_DIRECTORY));
  ORC_ASSIGN(const Fd program, load_program(device_program(rules)));
  const std::vector<std::uint32_t> before = attached_to(cgroup);
  bpf_attr attributes{};
  attributes.target_fd = static_cast<std::uint32_t>(cgroup.get());
  attributes.attach_bpf_fd = static_cast<std::uint32_t>(program.get());
  attributes.attach_type = BPF_CGROUP_DEVICE;
  attributes.attach_flags = BPF_F_ALLOW_MULTI;
  if (bpf(BPF_PROG_ATTACH, attributes) != 0)
    return system_error(kDomain, "bpf(BPF_PROG_ATTACH)", path, errno);
  for (const std::uint32_t id : before) detach(cgroup, id);
  return {};
}

}  // namespace orchestra::runtime
