// linux.resources to the files of v1 or v2, controller by controller. Pure.
//
// A machine may have cpu on v1 and memory on v2: each value is planned for where its controller is. What a
// machine cannot enforce is not an error here but a line in `missing`; the caller refuses or reports it.
// Order matters in two places (quota and period, limit and swap), and which order is right depends on the
// values that are in force; so apply() writes in this order and repeats once what the kernel refused.
#include <algorithm>
#include <cmath>

#include "runtime/linux/cgroups.hpp"

namespace orchestra::runtime {
namespace {

using Resources = ContainerSpec::Resources;

class LimitPlanner {
 public:
  LimitPlanner(const CgroupLayout& layout, const Resources& resources, std::vector<std::string>& missing)
      : layout_(layout), resources_(resources), missing_(missing) {}

  std::vector<CgroupWrite> run() {
    cpu();
    cpuset();
    memory();
    if (resources_.pids_limit && where("pids", "pids limit") != nullptr)
      add("pids", "pids.max", *resources_.pids_limit <= 0 ? "max" : number(*resources_.pids_limit));
    if (resources_.block_io) block_io(*resources_.block_io);
    others();
    devices();
    unified();
    return std::move(writes_);
  }

 private:
  template <class T>
  static std::string number(T value) {
    return std::to_string(value);
  }
  static std::string device(std::int64_t major, std::int64_t minor) {
    return number(major) + ":" + number(minor);
  }

  const CgroupHierarchy* where(const char* controller, const std::string& what) {
    const CgroupHierarchy* found = layout_.find(controller);
    if (found != nullptr && found->writable) return found;
    missing_.push_back(what + ": the cgroup controller \"" + controller + "\" is " +
                       (found == nullptr ? "absent" : "mounted read-only"));
    return nullptr;
  }
  void add(const char* controller, std::string file, std::string value, bool required = true) {
    writes_.push_back({controller, std::move(file), std::move(value), required});
  }
  void not_on_v2(const char* what) {
    missing_.push_back(std::string(what) + ": cgroup v2 has no such control");
  }

  void cpu() {
    const Resources& r = resources_;
    const bool asked = r.cpu_shares || r.cpu_quota || r.cpu_period || r.cpu_burst || r.cpu_idle ||
                       r.realtime_runtime || r.realtime_period;
    if (!asked) return;
    const auto* at = where("cpu", "cpu limits");
    if (at == nullptr) return;
    const bool idle = r.cpu_idle.value_or(0) != 0;
    if (r.cpu_idle) add("cpu", "cpu.idle", number(*r.cpu_idle));
    if (r.cpu_shares.value_or(0) != 0 && !idle) {  // an idle group takes no weight
      add("cpu", at->unified ? "cpu.weight" : "cpu.shares",
          number(at->unified ? cpu_weight(*r.cpu_shares) : *r.cpu_shares));
    }
    if (at->unified) {
      if (r.cpu_quota || r.cpu_period) {
        const std::int64_t quota = r.cpu_quota.value_or(-1);
        add("cpu", "cpu.max",
            (quota > 0 ? number(quota) : std::string("max")) + " " + number(r.cpu_period.value_or(100000)));
      }
      if (r.cpu_burst) add("cpu", "cpu.max.burst", number(*r.cpu_burst));
      if (r.realtime_runtime.value_or(0) != 0 || r.realtime_period.value_or(0) != 0)
        not_on_v2("cpu realtime limits");
      return;
    }
    if (r.realtime_period.value_or(0) != 0) add("cpu", "cpu.rt_period_us", number(*r.realtime_period));
    if (r.realtime_runtime.value_or(0) != 0) add("cpu", "cpu.rt_runtime_us", number(*r.realtime_runtime));
    if (r.cpu_period.value_or(0) != 0) add("cpu", "cpu.cfs_period_us", number(*r.cpu_period));
    if (r.cpu_quota.value_or(0) != 0) add("cpu", "cpu.cfs_quota_us", number(*r.cpu_quota));
    if (r.cpu_burst) add("cpu", "cpu.cfs_burst_us", number(*r.cpu_burst));
  }

  void cpuset() {
    if (resources_.cpuset_cpus.empty() && resources_.cpuset_mems.empty()) return;
    if (where("cpuset", "cpuset") == nullptr) return;
    if (!resources_.cpuset_cpus.empty()) add("cpuset", "cpuset.cpus", resources_.cpuset_cpus);
    if (!resources_.cpuset_mems.empty()) add("cpuset", "cpuset.mems", resources_.cpuset_mems);
  }

  void memory() {
    const Resources& r = resources_;
    const bool asked = r.memory_limit || r.memory_reservation || r.memory_swap || r.memory_swappiness ||
                       r.disable_oom_killer || r.memory_kernel_tcp;
    if (!asked) return;
    const auto* at = where("memory", "memory limit");
    if (at == nullptr) return;
    const std::int64_t limit = r.memory_limit.value_or(0), swap = r.memory_swap.value_or(0);
    if (at->unified) {
      if (limit != 0) add("memory", "memory.max", limit < 0 ? "max" : number(limit));
      if (r.memory_reservation.value_or(0) != 0)
        add("memory", "memory.low", *r.memory_reservation < 0 ? "max" : number(*r.memory_reservation));
      // A kernel without swap has no such file, and then nothing can be swapped.
      if (swap != 0)
        add("memory", "memory.swap.max", swap < 0 ? "max" : number(swap - std::max<std::int64_t>(limit, 0)),
            false);
      if (swap == 0 && limit < 0) add("memory", "memory.swap.max", "max", false);
      if (r.memory_swappiness) not_on_v2("memory swappiness");
      if (r.disable_oom_killer.value_or(false)) not_on_v2("memory disableOOMKiller");
      if (r.memory_kernel_tcp.value_or(0) > 0) not_on_v2("memory kernelTCP");
      return;
    }
    if (limit != 0) add("memory", "memory.limit_in_bytes", number(limit));
    if (swap != 0) add("memory", "memory.memsw.limit_in_bytes", number(swap), false);
    if (swap == 0 && limit < 0) add("memory", "memory.memsw.limit_in_bytes", "-1", false);
    if (r.memory_reservation.value_or(0) != 0)
      add("memory", "memory.soft_limit_in_bytes", number(*r.memory_reservation));
    if (r.memory_kernel_tcp.value_or(0) != 0)
      add("memory", "memory.kmem.tcp.limit_in_bytes", number(*r.memory_kernel_tcp));
    if (r.memory_swappiness) add("memory", "memory.swappiness", number(*r.memory_swappiness));
    if (r.disable_oom_killer) add("memory", "memory.oom_control", *r.disable_oom_killer ? "1" : "0");
  }

  void block_io(const ContainerSpec::BlockIo& io) {
    const auto* v2 = layout_.find("io");
    if (v2 != nullptr && v2->unified && layout_.find("blkio") == nullptr) return block_io_v2(io, *v2);
    if (where("blkio", "blockIO") == nullptr) return;
    // Which of both names a kernel has depends on its scheduler: one of them is enough.
    const auto weight = [&](const char* file, const char* bfq, const std::string& value) {
      writes_.push_back({"blkio", file, value, true, bfq});
    };
    if (io.weight) weight("blkio.weight", "blkio.bfq.weight", number(*io.weight));
    if (io.leaf_weight) add("blkio", "blkio.leaf_weight", number(*io.leaf_weight));
    for (const auto& one : io.weight_device) {
      const std::string name = device(one.major, one.minor) + " ";
      if (one.weight) weight("blkio.weight_device", "blkio.bfq.weight_device", name + number(*one.weight));
      if (one.leaf_weight) add("blkio", "blkio.leaf_weight_device", name + number(*one.leaf_weight));
    }
    const auto rates = [&](const char* file, const std::vector<ContainerSpec::BlockRate>& all) {
      for (const auto& one : all) add("blkio", file, device(one.major, one.minor) + " " + number(one.rate));
    };
    rates("blkio.throttle.read_bps_device", io.read_bps);
    rates("blkio.throttle.write_bps_device", io.write_bps);
    rates("blkio.throttle.read_iops_device", io.read_iops);
    rates("blkio.throttle.write_iops_device", io.write_iops);
  }

  void block_io_v2(const ContainerSpec::BlockIo& io, const CgroupHierarchy& at) {
    if (!at.writable) {
      missing_.push_back("blockIO: the cgroup controller \"io\" is mounted read-only");
      return;
    }
    const auto scaled = [](std::uint16_t weight) { return number(1 + (weight - 10) * 9999 / 990); };
    if (io.weight)
      writes_.push_back({"io", "io.bfq.weight", number(*io.weight), true, "io.weight", scaled(*io.weight)});
    for (const auto& one : io.weight_device) {
      if (!one.weight) continue;
      const std::string name = device(one.major, one.minor) + " ";
      writes_.push_back(
          {"io", "io.bfq.weight", name + number(*one.weight), true, "io.weight", name + scaled(*one.weight)});
    }
    if (io.leaf_weight) not_on_v2("blockIO leafWeight");
    const auto rates = [&](const char* key, const std::vector<ContainerSpec::BlockRate>& all) {
      for (const auto& one : all) {
        add("io", "io.max",
            device(one.major, one.minor) + " " + key + "=" + (one.rate == 0 ? "max" : number(one.rate)));
      }
    };
    rates("rbps", io.read_bps);
    rates("wbps", io.write_bps);
    rates("riops", io.read_iops);
    rates("wiops", io.write_iops);
  }

  void others() {
    for (const auto& one : resources_.hugepage_limits) {
      const auto* at = where("hugetlb", "hugepage limit " + one.page_size);
      if (at == nullptr) continue;
      const std::string end = at->unified ? "max" : "limit_in_bytes";
      const std::string file = "hugetlb." + one.page_size + ".";
      add("hugetlb", file + "rsvd." + end, number(one.limit), false);  // reservations: Linux 5.7
      add("hugetlb", file + end, number(one.limit));
    }
    for (const auto& [name, limit] : resources_.rdma) {
      if (where("rdma", "rdma limit of " + name) == nullptr) continue;
      std::string value = name;
      if (limit.handles) value += " hca_handle=" + number(*limit.handles);
      if (limit.objects) value += " hca_object=" + number(*limit.objects);
      add("rdma", "rdma.max", value);
    }
    if (resources_.network_class.value_or(0) != 0 && where("net_cls", "network classID") != nullptr)
      add("net_cls", "net_cls.classid", number(*resources_.network_class));
    for (const auto& [name, priority] : resources_.network_priorities) {
      if (where("net_prio", "network priorities") != nullptr)
        add("net_prio", "net_prio.ifpriomap", name + " " + number(priority));
    }
  }

  void devices() {
    const bool restricts = std::any_of(resources_.devices.begin(), resources_.devices.end(),
                                       [](const auto& rule) { return !rule.allow; });
    const CgroupHierarchy* at = layout_.find("devices");
    if (at == nullptr || at->unified) {  // v2: a program, see device_program.hpp
      if (restricts && layout_.unified() == nullptr)
        missing_.push_back(
            "device rules: no cgroup hierarchy on this machine can have them; /dev holds the default nodes "
            "only");
      return;
    }
    if (!at->writable) {
      if (restricts)
        missing_.push_back("device rules: the cgroup controller \"devices\" is mounted read-only");
      return;
    }
    for (const auto& rule : resources_.devices) {
      const auto part = [](const std::optional<std::int64_t>& n) {
        return n && *n >= 0 ? std::to_string(*n) : std::string("*");
      };
      add("devices", rule.allow ? "devices.allow" : "devices.deny",
          rule.type == 'a' ? "a"
                           : std::string(1, rule.type) + " " + part(rule.major) + ":" + part(rule.minor) +
                                 " " + rule.access);
    }
  }

  void unified() {
    for (const auto& [file, value] : resources_.unified) {
      const std::string controller = file.substr(0, file.find('.'));
      const CgroupHierarchy* at = controller == "cgroup" ? layout_.unified() : layout_.find(controller);
      if (at == nullptr || !at->unified) {
        missing_.push_back("unified \"" + file + "\": no cgroup v2 controller of that name");
      } else {
        writes_.push_back({controller, file, value, true});
      }
    }
  }

  const CgroupLayout& layout_;
  const Resources& resources_;
  std::vector<std::string>& missing_;
  std::vector<CgroupWrite> writes_;
};
}  // namespace

std::uint64_t cpu_weight(std::uint64_t shares) {
  if (shares == 0) return 0;
  if (shares <= 2) return 1;
  if (shares >= 262144) return 10000;
  const double l = std::log2(static_cast<double>(shares));
  const double exponent = (l * l + 125 * l) / 612.0 - 7.0 / 34.0;
  return static_cast<std::uint64_t>(std::ceil(std::pow(10, exponent)));
}

std::vector<CgroupWrite> plan_limits(const CgroupLayout& layout, const ContainerSpec::Resources& resources,
                                     std::vector<std::string>& missing) {
  return LimitPlanner(layout, resources, missing).run();
}

}  // namespace orchestra::runtime
