// Pure parts: specification to plan, config.json, capabilities, seccomp, cgroup layouts, limits.
#include <cstring>

#include "orchestra/container_spec.hpp"
#include "runtime/linux/cgroups.hpp"
#include "runtime/linux/seccomp.hpp"
#include "runtime/plan/make_plan.hpp"
#include "runtime/spec/capabilities.hpp"
#include "runtime/spec/pod_spec.hpp"
#include "tests/support/test.hpp"

namespace orchestra::test {
namespace {

using namespace orchestra::runtime;

ContainerSpec small_spec() {
  ContainerSpec spec;
  spec.process = ContainerSpec::Process{};
  spec.process->args = {"/bin/app", ""};
  spec.root_path = "/srv/root";
  spec.namespaces = {{"pid", ""}, {"mount", ""}};
  return spec;
}
std::string plan_error(const ContainerSpec& spec, const PlanContext& context = {}) {
  const auto plan = make_plan(spec, context);
  return plan ? "" : plan.error().message();
}
std::string json_error(const std::string& text) {
  const auto spec = ContainerSpec::from_json(text);
  return spec ? "" : spec.error().message();
}
std::string with(const std::string& member) {
  return R"({"ociVersion":"1.0.2","root":{"path":"r"},"process":{"cwd":"/","args":["x"]},)" + member + "}";
}
}  // namespace

TEST_CASE(
    "a plan says the lowest version that knows all of it: a shim of an earlier release refuses the rest") {
  const auto version = [](const ContainerSpec& spec, const PlanContext& context) {
    const std::string block = make_plan(spec, context).value();
    wire::Plan plan;
    std::memcpy(&plan, block.data(), sizeof plan);
    return plan.version;
  };
  ContainerSpec spec = small_spec();
  spec.mounts = {{"/data", "bind", "/volume", {"rbind"}}};
  CHECK(version(spec, {}) == wire::kPlanVersionMin);
  PlanContext with_sub_path;
  with_sub_path.sub_paths = {{"/data", "a/b"}};
  CHECK(version(spec, with_sub_path) == wire::kPlanVersion);
  CHECK(wire::kPlanVersion > wire::kPlanVersionMin);
  std::string newer = make_plan(spec, with_sub_path).value();
  CHECK(wire::plan_is_sound(newer.data(), newer.size()));
  const std::uint32_t next = wire::kPlanVersion + 1;
  std::memcpy(newer.data() + offsetof(wire::Plan, version), &next, sizeof next);
  CHECK_FALSE(wire::plan_is_sound(newer.data(), newer.size()));
}

TEST_CASE("a specification becomes the plan that this text shows") {
  ContainerSpec spec = small_spec();
  spec.process->env = {"A=1"};
  spec.process->user = {7, 8, {}, {9, 10}};
  spec.process->rlimits = {{"RLIMIT_NOFILE", 10, 20}};
  spec.process->capabilities = ContainerSpec::Capabilities{{"CAP_CHOWN"}, {"KILL"}, {}, {}, {}};
  spec.mounts = {{"/dev", "tmpfs", "tmpfs", {"nosuid", "mode=755"}},
                 {"/data/", "bind", "/host", {"rbind", "ro", "rslave"}}};
  spec.masked_paths = {"/proc/kcore"};
  PlanContext context;
  context.cgroup_files = {"/cg/tasks"};
  const auto plan = make_plan(spec, context);
  REQUIRE_MESSAGE(plan.has_value(), (plan ? "" : plan.error().to_string()));
  CHECK(print_plan(*plan) ==
        "flags 0x981\n"
        "namespaces 0x20020000\n"
        "root /srv/root\n"
        "cgroup /cg/tasks\n"
        "mount tmpfs tmpfs on /dev set=0x2 clear=0x0 propagation=0x0 mode=755\n"
        "devices /dev\n"
        "bind /host on /data set=0x1 clear=0x0 propagation=0x80000 recursive\n"
        "mask /proc/kcore\n"
        "user 7:8,9,10\n"
        "capabilities bounding=0x1 effective=0x20\n"
        "limit 7 10 20\n"
        "seccomp 0\n"
        "cwd /\n"
        "arg /bin/app\n"
        "arg \n"
        "env A=1\n");
}

TEST_CASE("what cannot be planned is refused with the field and its value") {
  ContainerSpec spec = small_spec();
  spec.mounts = {{"/a/../etc", "tmpfs", "tmpfs", {}}};
  CHECK(plan_error(spec).find("/a/../etc") != std::string::npos);
  spec = small_spec();
  spec.process->args.clear();
  CHECK(plan_error(spec).find("process.args") != std::string::npos);
  spec = small_spec();
  spec.namespaces.push_back({"pid", ""});
  CHECK(plan_error(spec).find("listed twice") != std::string::npos);
  spec = small_spec();
  spec.hostname = "x";
  CHECK(plan_error(spec).find("uts") != std::string::npos);
  spec = small_spec();
  spec.process->rlimits = {{"RLIMIT_NOFILE", 20, 10}};
  CHECK(plan_error(spec).find("soft 20 is above hard 10") != std::string::npos);
  spec.process->rlimits = {{"RLIMIT_WHAT", 1, 1}};
  CHECK(plan_error(spec).find("RLIMIT_WHAT") != std::string::npos);
  spec = small_spec();
  spec.process->env.assign(3000, std::string(1000, 'x'));
  CHECK(plan_error(spec).find("shorten") != std::string::npos);
  spec = small_spec();
  spec.root_path.clear();
  PlanContext context;
  context.root.overlay_lower = {"a:b"};
  CHECK(plan_error(spec, context).find("a:b") != std::string::npos);
}

TEST_CASE("a damaged plan is never sound: every cut and every changed offset is found or harmless") {
  ContainerSpec spec = small_spec();
  add_default_mounts(spec, false, true);
  add_default_protections(spec);
  const std::string plan = make_plan(spec, {}).value();
  for (std::size_t size = 0; size < plan.size(); size += 7)
    CHECK(print_plan(plan.substr(0, size)) == "not sound\n");
  for (std::size_t at = 0; at + 4 <= sizeof(wire::Plan); at += 4) {
    std::string damaged = plan;
    const std::uint32_t wild = 0xfffffff0u;
    std::memcpy(damaged.data() + at, &wild, sizeof wild);
    (void)print_plan(damaged);  // under ASan: no read outside of the block
  }
}

TEST_CASE("config.json errors name the JSON path and the value") {
  CHECK(json_error(with(R"("linux":{"resources":{"memory":{"limit":"1g"}}})"))
            .find("linux.resources.memory.limit") != std::string::npos);
  CHECK(json_error(with(R"("linux":{"namespaces":[{"type":"pid"},{"type":"pid"}]})"))
            .find("linux.namespaces[1].type") != std::string::npos);
  CHECK(json_error(with(R"("linux":{"namespaces":[{"type":"magic"}]})")).find("magic") != std::string::npos);
  CHECK(json_error(with(R"("linux":{"sysctl":{"kernel.panic":"1"}})")).find("kernel.panic") !=
        std::string::npos);
  CHECK(json_error(with(R"("linux":{"resources":{"unified":{"../x":"1"}}})")).find("../x") !=
        std::string::npos);
  CHECK(json_error(with(R"("linux":{"resources":{"memory":{"limit":100,"swap":50}}})")).find("memory.swap") !=
        std::string::npos);
  CHECK(json_error(with(R"("hooks":{"prestart":[{"path":"relative"}]})")).find("hooks.prestart[0].path") !=
        std::string::npos);
  CHECK(json_error(with(R"("hooks":{"poststop":[{"path":"/x","timeout":0}]})")).find("timeout") !=
        std::string::npos);
  CHECK(json_error(with(R"("mounts":[{"type":"tmpfs"}])")).find("mounts[0].destination") !=
        std::string::npos);
  CHECK(json_error(R"({"ociVersion":"2.0","root":{"path":"r"}})").find("2.0") != std::string::npos);
  CHECK(json_error(R"({"ociVersion":"1.0.2"})").find("root.path") != std::string::npos);
  CHECK(json_error(
            R"({"ociVersion":"1.0.2","root":{"path":"r"},"process":{"cwd":"/","user":{"uid":4294967295}}})")
            .find("process.user.uid") != std::string::npos);
  CHECK(json_error("{").find("config.json") != std::string::npos);
  CHECK(json_error("[]").find("expected an object") != std::string::npos);
  CHECK(json_error(with(R"("someday":{"new":1})")).empty());
}

TEST_CASE("capabilities: 14 by default, ALL first, then single names; unknown ones are told") {
  std::vector<std::string> unknown;
  CHECK(default_capabilities() == 0xa80425fbull);
  CHECK(choose_capabilities({"NET_ADMIN"}, {"ALL"}, unknown) == 1ull << 12);
  CHECK(choose_capabilities({"all"}, {"cap_sys_admin"}, unknown) == (kAllCapabilities & ~(1ull << 21)));
  CHECK(unknown.empty());
  CHECK(choose_capabilities({"FLYING"}, {}, unknown) == default_capabilities());
  CHECK(unknown == std::vector<std::string>{"FLYING"});
  CHECK(capability_number("CAP_CHECKPOINT_RESTORE") == 40);
}

TEST_CASE(
    "a seccomp profile compiles; unknown actions, operators and architectures are errors, unknown names are "
    "not") {
  ContainerSpec::Process process;
  process.capabilities =
      ContainerSpec::Capabilities{capability_names(default_capabilities()), {}, {}, {}, {}};
  const auto filter = default_seccomp_filter(process);
  REQUIRE(filter.has_value());
  CHECK(filter->size() > 100 * 8);
  CHECK(filter->size() % 8 == 0);
  ContainerSpec::Seccomp profile{
      "SCMP_ACT_ALLOW", {}, {}, {}, {{{"no_such_call", "mkdir"}, "SCMP_ACT_ERRNO", 5, {}}}};
  CHECK(compile_seccomp(profile).has_value());
  profile.syscalls[0].action = "SCMP_ACT_PARTY";
  CHECK(compile_seccomp(profile).error().message().find("SCMP_ACT_PARTY") != std::string::npos);
  profile.syscalls[0] = {{"mkdir"}, "SCMP_ACT_KILL", 5, {}};
  CHECK(compile_seccomp(profile).error().message().find("errnoRet") != std::string::npos);
  profile.syscalls[0] = {{"mkdir"}, "SCMP_ACT_ERRNO", {}, {{0, 1, 0, "SCMP_CMP_NEARLY"}}};
  CHECK(compile_seccomp(profile).error().message().find("SCMP_CMP_NEARLY") != std::string::npos);
  profile.syscalls.clear();
  profile.architectures = {"SCMP_ARCH_PDP11"};
  CHECK(compile_seccomp(profile).error().message().find("PDP11") != std::string::npos);
}

TEST_CASE("cgroup layouts are found per controller: v1, v2, hybrid, none") {
  const std::string v1 =
      "30 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
      "31 23 0:28 /docker/abc /sys/fs/cgroup/memory ro,nosuid shared:10 - cgroup cgroup rw,memory\n"
      "32 23 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
  const CgroupLayout first = parse_cgroup_layout(v1, {});
  REQUIRE(first.find("cpuacct") != nullptr);
  CHECK(first.find("cpuacct") == first.find("cpu"));
  CHECK(first.find("memory")->root == "/docker/abc");
  CHECK_FALSE(first.find("memory")->writable);
  CHECK(first.find("pids") == nullptr);
  CHECK(first.find("name=systemd") != nullptr);

  const std::string v2 = "24 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
  const CgroupLayout second = parse_cgroup_layout(v2, {{"/sys/fs/cgroup", "cpuset cpu io memory pids\n"}});
  REQUIRE(second.find("memory") != nullptr);
  CHECK(second.find("memory")->unified);
  CHECK(second.find("pids") == second.unified());

  const CgroupLayout hybrid =
      parse_cgroup_layout(v1 + "33 23 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
                          {{"/sys/fs/cgroup/unified", "\n"}});
  CHECK_FALSE(hybrid.find("memory")->unified);
  REQUIRE(hybrid.unified() != nullptr);
  CHECK(hybrid.unified()->controllers.empty());
  CHECK(parse_cgroup_layout("22 27 0:21 / /proc rw - proc proc rw\n", {}).hierarchies.empty());
}

TEST_CASE("limits become the files of v1 or v2; what no controller takes is named") {
  ContainerSpec::Resources resources;
  resources.cpu_shares = 1024;
  resources.cpu_quota = 50000;
  resources.memory_limit = 1000;
  resources.memory_swap = 3000;
  resources.pids_limit = 5;
  const auto files = [&](const CgroupLayout& layout, std::vector<std::string>& missing) {
    std::string all;
    for (const CgroupWrite& write : plan_limits(layout, resources, missing))
      all += write.file + "=" + write.value + ";";
    return all;
  };
  std::vector<std::string> missing;
  const CgroupLayout v2 =
      parse_cgroup_layout("24 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n", {{"/cg", "cpu memory pids\n"}});
  CHECK(files(v2, missing) ==
        "cpu.weight=100;cpu.max=50000 100000;memory.max=1000;memory.swap.max=2000;pids.max=5;");
  const CgroupLayout v1 = parse_cgroup_layout(
      "1 1 0:1 / /c rw - cgroup cgroup rw,cpu\n1 1 0:2 / /m rw - cgroup cgroup rw,memory\n1 1 0:3 / /p rw - "
      "cgroup cgroup rw,pids\n",
      {});
  CHECK(files(v1, missing) ==
        "cpu.shares=1024;cpu.cfs_quota_us=50000;memory.limit_in_bytes=1000;memory."
        "memsw.limit_in_bytes=3000;pids.max=5;");
  CHECK(missing.empty());
  CHECK(files({}, missing).empty());
  CHECK(missing.size() == 3);
}

TEST_CASE("cpu.shares become cpu.weight as runc and the kernel documentation have it") {
  CHECK(cpu_weight(0) == 0);
  CHECK(cpu_weight(1) == 1);
  CHECK(cpu_weight(2) == 1);
  CHECK(cpu_weight(1024) == 100);
  CHECK(cpu_weight(262144) == 10000);
  CHECK(cpu_weight(1 << 30) == 10000);
}

}  // namespace orchestra::test
