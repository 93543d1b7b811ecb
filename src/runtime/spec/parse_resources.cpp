#include "runtime/spec/parse_resources.hpp"

namespace orchestra::runtime {

char device_type(const JsonReader& reader, bool rule) {
  const std::string type = reader.text(rule ? "a" : "");
  const std::string_view known = rule ? "acb" : "cbup";
  if (type.size() != 1 || known.find(type[0]) == std::string_view::npos) {
    reader.fail("unknown device type \"" + type + "\"");
    return 'c';
  }
  return type[0];
}

namespace {
std::vector<ContainerSpec::BlockRate> parse_rates(const JsonReader& r) {
  std::vector<ContainerSpec::BlockRate> all;
  for (const JsonReader& entry : r.items()) {
    all.push_back({entry["major"].number<std::int64_t>().value_or(0),
                   entry["minor"].number<std::int64_t>().value_or(0),
                   entry["rate"].number<std::uint64_t>().value_or(0)});
  }
  return all;
}

ContainerSpec::BlockIo parse_block_io(const JsonReader& r) {
  ContainerSpec::BlockIo io;
  const auto weight = [](const JsonReader& reader) {
    const auto value = reader.number<std::uint16_t>();
    if (value && *value != 0 && (*value < 10 || *value > 1000))
      reader.fail(std::to_string(*value) + ": 10..1000 are weights");
    return value && *value != 0 ? value : std::nullopt;
  };
  io.weight = weight(r["weight"]);
  io.leaf_weight = weight(r["leafWeight"]);
  for (const JsonReader& entry : r["weightDevice"].items()) {
    io.weight_device.push_back({entry["major"].number<std::int64_t>().value_or(0),
                                entry["minor"].number<std::int64_t>().value_or(0), weight(entry["weight"]),
                                weight(entry["leafWeight"])});
  }
  io.read_bps = parse_rates(r["throttleReadBpsDevice"]);
  io.write_bps = parse_rates(r["throttleWriteBpsDevice"]);
  io.read_iops = parse_rates(r["throttleReadIOPSDevice"]);
  io.write_iops = parse_rates(r["throttleWriteIOPSDevice"]);
  return io;
}

void parse_other_resources(const JsonReader& r, ContainerSpec::Resources& resources) {
  for (const JsonReader& entry : r["hugepageLimits"].items()) {
    const std::string size = entry["pageSize"].text();
    const std::size_t digits = size.find_first_not_of("0123456789");
    const std::string unit = digits == std::string::npos || digits == 0 ? "" : size.substr(digits);
    if (unit != "KB" && unit != "MB" && unit != "GB")
      entry["pageSize"].fail("\"" + size + "\" is no page size like 2MB");
    for (const auto& other : resources.hugepage_limits) {
      if (other.page_size == size) entry["pageSize"].fail("\"" + size + "\" is listed twice");
    }
    resources.hugepage_limits.push_back({size, entry["limit"].number<std::uint64_t>().value_or(0)});
  }
  for (const auto& [device, limits] : r["rdma"].members()) {
    const ContainerSpec::RdmaLimit limit{limits["hcaHandles"].number<std::uint32_t>(),
                                         limits["hcaObjects"].number<std::uint32_t>()};
    if (!limit.handles && !limit.objects) limits.fail("names neither hcaHandles nor hcaObjects");
    resources.rdma[device] = limit;
  }
  const JsonReader network = r["network"];
  resources.network_class = network["classID"].number<std::uint32_t>();
  for (const JsonReader& entry : network["priorities"].items())
    resources.network_priorities[entry["name"].text()] =
        entry["priority"].number<std::uint32_t>().value_or(0);
}
}  // namespace

void parse_resources(const JsonReader& r, ContainerSpec::Resources& resources) {
  for (const JsonReader& rule : r["devices"].items()) {
    ContainerSpec::DeviceRule entry;
    entry.allow = rule["allow"].boolean();
    entry.type = device_type(rule["type"], true);
    entry.major = rule["major"].number<std::int64_t>();
    entry.minor = rule["minor"].number<std::int64_t>();
    entry.access = rule["access"].text("rwm");
    if (entry.access.find_first_not_of("rwm") != std::string::npos)
      rule["access"].fail("only r, w and m may occur");
    resources.devices.push_back(std::move(entry));
  }
  const JsonReader cpu = r["cpu"], memory = r["memory"];
  resources.cpu_shares = cpu["shares"].number<std::uint64_t>();
  resources.cpu_quota = cpu["quota"].number<std::int64_t>();
  resources.cpu_period = cpu["period"].number<std::uint64_t>();
  resources.cpuset_cpus = cpu["cpus"].text();
  resources.cpuset_mems = cpu["mems"].text();
  resources.memory_limit = memory["limit"].number<std::int64_t>();
  resources.memory_reservation = memory["reservation"].number<std::int64_t>();
  resources.memory_swap = memory["swap"].number<std::int64_t>();
  const auto limit = resources.memory_limit.value_or(0), swap = resources.memory_swap.value_or(0);
  if (swap > 0 && limit <= 0) memory["swap"].fail("needs memory.limit");
  if (swap > 0 && limit > 0 && swap < limit)
    memory["swap"].fail(std::to_string(swap) + " is below memory.limit " + std::to_string(limit));
  resources.cpu_burst = cpu["burst"].number<std::uint64_t>();
  resources.cpu_idle = cpu["idle"].number<std::int64_t>();
  resources.realtime_runtime = cpu["realtimeRuntime"].number<std::int64_t>();
  resources.realtime_period = cpu["realtimePeriod"].number<std::uint64_t>();
  resources.memory_kernel_tcp = memory["kernelTCP"].number<std::int64_t>();
  resources.memory_swappiness = memory["swappiness"].number<std::uint64_t>();
  if (resources.memory_swappiness.value_or(0) > 100) memory["swappiness"].fail("0..100 are taken");
  if (memory["disableOOMKiller"].present())
    resources.disable_oom_killer = memory["disableOOMKiller"].boolean();
  if (memory["checkBeforeUpdate"].present())
    resources.check_before_update = memory["checkBeforeUpdate"].boolean();
  if (r["blockIO"].present()) resources.block_io = parse_block_io(r["blockIO"]);
  parse_other_resources(r, resources);
  resources.pids_limit = r["pids"]["limit"].number<std::int64_t>();
  resources.unified = r["unified"].text_map();
  for (const auto& [file, value] : resources.unified) {
    if (file.find('/') != std::string::npos || file.find("..") != std::string::npos)
      r["unified"].fail("\"" + file + "\" is no file of a cgroup");
  }
}

Result<ContainerSpec::Resources> resources_from_json(std::string_view text) {
  ORC_ASSIGN(const json::value document, parse_json(std::string(text)));
  JsonReader::Failure failure;
  ContainerSpec::Resources resources;
  parse_resources(JsonReader(&document, "", failure), resources);
  if (failure.error) return *failure.error;
  return resources;
}

}  // namespace orchestra::runtime
