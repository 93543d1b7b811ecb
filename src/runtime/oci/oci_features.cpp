// `features` and `spec`: what this runtime can do, and a config.json to begin with.
#include <seccomp.h>
#include <unistd.h>

#include "base/fd.hpp"
#include "base/json.hpp"
#include "runtime/domain.hpp"
#include "runtime/oci/oci_command.hpp"
#include "runtime/spec/capabilities.hpp"

namespace orchestra::runtime {
namespace {

json::array words(std::initializer_list<const char*> all) {
  json::array out;
  for (const char* word : all) out.emplace_back(word);
  return out;
}

json::object seccomp_features() {
  return {{"enabled", true},
          {"actions", words({"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                             "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE",
                             "SCMP_ACT_TRAP"})},
          {"operators", words({"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                               "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"})},
          {"archs", words({"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64",
                           "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_RISCV64",
                           "SCMP_ARCH_S390X", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"})},
          {"knownFlags", words({"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                                "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"})},
          {"supportedFlags", words({"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                                    "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"})}};
}
}  // namespace

Result<int> OciCommand::features() {
  json::array capabilities;
  for (const std::string& name : capability_names(kAllCapabilities)) capabilities.emplace_back(name);
  const scmp_version* library = seccomp_version();
  const std::string seccomp = std::to_string(library->major) + "." + std::to_string(library->minor) + "." +
                              std::to_string(library->micro);
  const json::object enabled{{"enabled", true}};
  const json::object out{
      {"ociVersionMin", "1.0.0"},
      {"ociVersionMax", kOciSpecVersion},
      {"hooks",
       words({"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"})},
      {"mountOptions", words({"async",          "atime",       "bind",         "defaults",    "dev",
                              "diratime",       "exec",        "idmap",        "loud",        "noatime",
                              "nodev",          "nodiratime",  "noexec",       "norelatime",  "nostrictatime",
                              "nosuid",         "nosymfollow", "private",      "ratime",      "rbind",
                              "rdev",           "rdiratime",   "relatime",     "rexec",       "ridmap",
                              "rnoatime",       "rnodev",      "rnodiratime",  "rnoexec",     "rnorelatime",
                              "rnostrictatime", "rnosuid",     "rnosymfollow", "ro",          "rprivate",
                              "rrelatime",      "rro",         "rrw",          "rshared",     "rslave",
                              "rstrictatime",   "rsuid",       "rsymfollow",   "runbindable", "rw",
                              "shared",         "silent",      "slave",        "strictatime", "suid",
                              "symfollow",      "sync",        "tmpcopyup",    "unbindable"})},
      {"linux",
       json::object{
           {"namespaces", words({"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"})},
           {"capabilities", capabilities},
           {"cgroup",
            json::object{
                {"v1", true}, {"v2", true}, {"systemd", true}, {"systemdUser", false}, {"rdma", true}}},
           {"seccomp", seccomp_features()},
           {"apparmor", enabled},
           {"selinux", enabled},
           {"intelRdt", json::object{{"enabled", false}}},
           {"memoryPolicy",
            json::object{
                {"modes", words({"MPOL_BIND", "MPOL_DEFAULT", "MPOL_INTERLEAVE", "MPOL_LOCAL",
                                 "MPOL_PREFERRED", "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"})},
                {"flags", words({"MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"})}}},
           {"mountExtensions", json::object{{"idmap", enabled}}},
           {"netDevices", enabled}}},
      {"annotations",
       json::object{{"io.github.seccomp.libseccomp.version", seccomp}, {"dev.orchestra.version", "0.1.0"}}},
      {"potentiallyUnsafeConfigAnnotations", json::array()}};
  print(to_pretty_json(out) + "\n");
  return 0;
}

Result<int> OciCommand::spec() {
  const std::string path = args_.get("bundle", ".") + "/config.json";
  if (access(path.c_str(), F_OK) == 0)
    return Error(Error::already_exists, kDomain, path + " exists; remove it first");
  ContainerSpec example = ContainerSpec::example();
  if (args_.has("rootless")) {
    // The caller is root inside; the network is the machine's, and so is /sys.
    std::erase_if(example.namespaces, [](const auto& space) { return space.type == "network"; });
    example.namespaces.push_back({"user", ""});
    example.uid_mappings = {{0, geteuid(), 1}};
    example.gid_mappings = {{0, getegid(), 1}};
    example.resources = {};
    for (auto& mount : example.mounts) {
      if (mount.destination == "/sys")
        mount = {"/sys", "none", "/sys", {"rbind", "nosuid", "noexec", "nodev", "ro"}, {}, {}};
      std::erase(mount.options, "gid=5");  // not mapped
    }
  }
  ORC_TRY(replace_file(path, example.to_json() + "\n", 0644, false));
  return 0;
}

}  // namespace orchestra::runtime
