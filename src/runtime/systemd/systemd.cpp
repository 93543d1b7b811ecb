#include "runtime/systemd/systemd.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "runtime/domain.hpp"
#include "runtime/linux/cgroups.hpp"

namespace orchestra::runtime {
namespace {
constexpr auto kDeadline = std::chrono::seconds(10);
constexpr const char* kManager = "org.freedesktop.systemd1.Manager";
constexpr std::size_t kUnitNameBytesMax = 255;
constexpr std::uint64_t kUnlimited = ~std::uint64_t{0};
constexpr std::uint64_t kCpuPeriodDefaultUs = 100'000;

void write_properties(DbusWriter& out, const std::vector<SystemdProperty>& properties) {
  for (const SystemdProperty& property : properties) {
    out.align(8);
    out.text(property.name);
    out.signature(property.type);
    switch (property.type[0]) {
      case 't':
      case 'x':
        out.u64(property.number);
        break;
      case 'u':
      case 'i':
        out.u32(static_cast<std::uint32_t>(property.number));
        break;
      case 'b':
        out.boolean(property.number != 0);
        break;
      case 's':
        out.text(property.text);
        break;
      default: {  // ay, au
        const bool bytes = property.type == "ay";
        const std::size_t array = out.begin_array(bytes ? 1 : 4);
        for (const char c : property.text) out.byte(static_cast<std::uint8_t>(c));
        if (!bytes) out.u32(static_cast<std::uint32_t>(property.number));
        out.end_array(array);
      }
    }
  }
}

/// Unit names hold letters, digits and ":-_.\"; "@" stands for templates, which these are not.
bool is_unit_name(std::string_view name) {
  if (name.empty() || name.size() > kUnitNameBytesMax) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view(":-_.\\@").find(c) != std::string_view::npos;
  });
}

/// "0-2,5" as the bits that AllowedCPUs wants, lowest first. Empty: no list.
std::string list_as_bits(const std::string& list) {
  constexpr unsigned kHighest = 8191;
  std::string bits;
  for (std::size_t at = 0; at < list.size();) {
    const std::size_t end = std::min(list.find(',', at), list.size());
    unsigned first = 0, last = 0;
    const char* stop = list.data() + end;
    auto [next, error] = std::from_chars(list.data() + at, stop, first);
    last = first;
    if (error == std::errc() && next < stop && *next == '-')
      std::tie(next, error) = [&] {
        const auto got = std::from_chars(next + 1, stop, last);
        return std::pair(got.ptr, got.ec);
      }();
    if (error != std::errc() || last > kHighest || first > last) return {};
    for (unsigned cpu = first; cpu <= last; ++cpu) {
      if (bits.size() <= cpu / 8) bits.resize(cpu / 8 + 1, '\0');
      bits[cpu / 8] = static_cast<char>(bits[cpu / 8] | 1 << cpu % 8);
    }
    at = end + 1;
  }
  return bits;
}
}  // namespace

Result<SystemdUnit> parse_systemd_path(const std::string& path, const std::string& id, bool user) {
  SystemdUnit unit;
  unit.slice = user ? "user.slice" : "system.slice";
  std::string prefix = "orchestra", name = id;
  const auto bad = [&](const std::string& why) {
    return Error(Error::invalid, kDomain,
                 "linux.cgroupsPath \"" + path + "\": " + why +
                     "; with --systemd-cgroup it is slice:prefix:name, as in machine.slice:web:1");
  };
  if (!path.empty()) {
    const std::size_t first = path.find(':'),
                      second = first == std::string::npos ? first : path.find(':', first + 1);
    if (second == std::string::npos || path.find(':', second + 1) != std::string::npos)
      return bad("it has not three parts");
    if (first != 0) unit.slice = path.substr(0, first);
    prefix = path.substr(first + 1, second - first - 1);
    name = path.substr(second + 1);
  }
  const std::string stem =
      unit.slice.ends_with(".slice") ? unit.slice.substr(0, unit.slice.size() - 6) : std::string();
  const bool root = unit.slice == "-.slice";
  if (!is_unit_name(stem) ||
      (!root && (stem.front() == '-' || stem.back() == '-' || stem.find("--") != std::string::npos)))
    return bad("\"" + unit.slice + "\" is no name of a slice");
  unit.unit = name.ends_with(".slice") ? name : (prefix.empty() ? name : prefix + "-" + name) + ".scope";
  if (name.empty() || !is_unit_name(unit.unit)) return bad("\"" + unit.unit + "\" is no name of a unit");
  return unit;
}

std::vector<SystemdProperty> systemd_limits(const ContainerSpec::Resources& r, bool unified) {
  std::vector<SystemdProperty> all;
  const auto number = [&](const char* name, std::uint64_t value) { all.push_back({name, "t", value, {}}); };
  const auto bytes = [&](const char* name, std::int64_t value) {
    number(name, value < 0 ? kUnlimited : static_cast<std::uint64_t>(value));
  };
  if (r.memory_limit && *r.memory_limit != 0) bytes(unified ? "MemoryMax" : "MemoryLimit", *r.memory_limit);
  if (unified && r.memory_reservation && *r.memory_reservation != 0)
    bytes("MemoryLow", *r.memory_reservation);
  if (unified && r.memory_swap && *r.memory_swap != 0) {
    // Of the specification: memory and swap together. systemd: swap alone.
    const bool both = *r.memory_swap > 0 && r.memory_limit && *r.memory_limit > 0;
    bytes("MemorySwapMax",
          both ? std::max<std::int64_t>(*r.memory_swap - *r.memory_limit, 0) : *r.memory_swap);
  }
  if (r.cpu_shares && *r.cpu_shares != 0)
    number(unified ? "CPUWeight" : "CPUShares", unified ? cpu_weight(*r.cpu_shares) : *r.cpu_shares);
  if (r.cpu_quota && *r.cpu_quota != 0) {
    const std::uint64_t period = r.cpu_period.value_or(0) != 0 ? *r.cpu_period : kCpuPeriodDefaultUs;
    number("CPUQuotaPeriodUSec", period);
    // systemd keeps it in hundredths of a processor, so it is rounded up to 10 ms a second as runc does.
    const std::uint64_t exact =
        *r.cpu_quota < 0 ? kUnlimited : static_cast<std::uint64_t>(*r.cpu_quota) * 1'000'000 / period;
    number("CPUQuotaPerSecUSec", exact == kUnlimited ? exact : (exact + 9'999) / 10'000 * 10'000);
  }
  if (r.pids_limit && *r.pids_limit != 0) bytes("TasksMax", *r.pids_limit);
  if (const std::string bits = list_as_bits(r.cpuset_cpus); unified && !bits.empty())
    all.push_back({"AllowedCPUs", "ay", 0, bits});
  if (const std::string bits = list_as_bits(r.cpuset_mems); unified && !bits.empty())
    all.push_back({"AllowedMemoryNodes", "ay", 0, bits});
  return all;
}

Result<std::vector<SystemdProperty>> systemd_annotations(
    const std::map<std::string, std::string>& annotations) {
  constexpr std::string_view prefix = "org.systemd.property.";
  std::vector<SystemdProperty> all;
  for (const auto& [key, value] : annotations) {
    if (!key.starts_with(prefix)) continue;
    SystemdProperty property;
    property.name = key.substr(prefix.size());
    const auto bad = [&, &key = key, &value = value](const char* why) {
      return Error(Error::invalid, kDomain, "annotation " + key + ": \"" + value + "\" " + why);
    };
    if (property.name.size() < 2 || !std::all_of(property.name.begin(), property.name.end(), [](char c) {
          return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        }))
      return bad("belongs to no property of a unit: letters only");
    std::string rest = value;
    property.type = "i";  // of a number without a type, as in GVariant text
    for (const auto& [word, type] :
         {std::pair("uint64 ", "t"), {"int64 ", "x"}, {"uint32 ", "u"}, {"int32 ", "i"}}) {
      if (!rest.starts_with(word)) continue;
      property.type = type;
      rest.erase(0, std::string_view(word).size());
      break;
    }
    const bool quoted = rest.size() >= 2 && (rest[0] == '\'' || rest[0] == '"') && rest.back() == rest[0];
    if (rest == "true" || rest == "false") {
      property.type = "b";
      property.number = rest == "true";
    } else if (quoted) {
      property.type = "s";
      property.text = rest.substr(1, rest.size() - 2);
      if (property.text.find_first_of("'\"\\") != std::string::npos)
        return bad("holds quotes or a backslash, which are not taken");
    } else {
      std::int64_t negative = 0;
      const bool minus = !rest.empty() && rest[0] == '-';
      const char* stop = rest.data() + rest.size();
      const auto got = minus ? std::from_chars(rest.data(), stop, negative)
                             : std::from_chars(rest.data(), stop, property.number);
      if (minus) property.number = static_cast<std::uint64_t>(negative);
      if (got.ec != std::errc() || got.ptr != stop || rest.empty())
        return bad("is neither true, false, a number nor 'text'");
    }
    // As runc does: a time in seconds is what systemd keeps in microseconds.
    if (property.name.ends_with("Sec") && property.name.size() > 3 && !property.name.ends_with("USec") &&
        property.type != "s" && property.type != "b") {
      property.name.insert(property.name.size() - 3, "U");
      property.type = "t";
      property.number *= 1'000'000;
    }
    all.push_back(std::move(property));
  }
  return all;
}

Result<Systemd> Systemd::open(bool user) {
  std::string bus = "/run/dbus/system_bus_socket", own = "/run/systemd/private";
  if (user) {
    const char* folder = std::getenv("XDG_RUNTIME_DIR");
    const std::string run = folder != nullptr ? folder : "/run/user/" + std::to_string(geteuid());
    bus = run + "/bus";
    own = run + "/systemd/private";
  }
  const char* named = std::getenv(user ? "DBUS_SESSION_BUS_ADDRESS" : "DBUS_SYSTEM_BUS_ADDRESS");
  if (constexpr std::string_view form = "unix:path=";
      named != nullptr && std::string_view(named).starts_with(form)) {
    bus = std::string_view(named).substr(form.size());
    bus.resize(std::min(bus.find_first_of(",;"), bus.size()));
  }
  auto connected = DbusConnection::open(bus, true, kDeadline);
  if (!connected) {
    auto direct = DbusConnection::open(own, false, kDeadline);
    if (!direct)
      return Error(Error::unavailable, kDomain,
                   "--systemd-cgroup: no systemd answers (" + connected.error().message() + "; " +
                       direct.error().message() + "); use --cgroup-manager cgroupfs")
          .because(direct.error());
    connected = std::move(direct);
  }
  Systemd made(std::move(*connected));
  if (made.connection_.bus()) {  // signals of jobs reach those who ask for them
    DbusMessage match;
    match.destination = match.interface = "org.freedesktop.DBus";
    match.path = "/org/freedesktop/DBus";
    match.member = "AddMatch";
    match.signature = "s";
    DbusWriter rule;
    rule.text("type='signal',sender='org.freedesktop.systemd1',interface='" + std::string(kManager) +
              "',member='JobRemoved'");
    match.body = rule.bytes();
    ORC_TRY(made.connection_.call(std::move(match)));
    ORC_TRY(made.connection_.call(made.manager_call("Subscribe", "", {})));
  }
  return made;
}

DbusMessage Systemd::manager_call(const char* member, const char* signature, std::string body) const {
  DbusMessage call;
  if (connection_.bus()) call.destination = "org.freedesktop.systemd1";
  call.path = "/org/freedesktop/systemd1";
  call.interface = kManager;
  call.member = member;
  call.signature = signature;
  call.body = std::move(body);
  return call;
}

Result<void> Systemd::wait_for_job(const DbusMessage& answer, const std::string& what) {
  const std::string job = answer.reader().text();
  while (true) {
    ORC_ASSIGN(const DbusMessage signal, connection_.next_signal());
    if (signal.member != "JobRemoved") continue;
    DbusReader reader = signal.reader();
    (void)reader.u32();
    const std::string removed = reader.text(), unit = reader.text(), result = reader.text();
    if (reader.failed() || removed != job) continue;
    if (result == "done") return {};
    return Error(
        Error::unavailable, kDomain,
        "systemd did not " + what + ": its job ended as \"" + result + "\"; see journalctl -u " + unit);
  }
}

Result<std::string> Systemd::group_of(const std::string& unit) {
  DbusWriter name;
  name.text(unit);
  ORC_ASSIGN(const DbusMessage found, connection_.call(manager_call("GetUnit", "s", name.bytes())));
  DbusMessage get = manager_call("Get", "ss", {});
  get.path = found.reader().text();
  get.interface = "org.freedesktop.DBus.Properties";
  DbusWriter which;
  which.text(unit.ends_with(".slice") ? "org.freedesktop.systemd1.Slice" : "org.freedesktop.systemd1.Scope");
  which.text("ControlGroup");
  get.body = which.bytes();
  ORC_ASSIGN(const DbusMessage value, connection_.call(std::move(get)));
  DbusReader reader = value.reader();
  const std::string type = reader.signature();
  std::string group = type == "s" ? reader.text() : std::string();
  if (reader.failed() || group.empty() || group[0] != '/' || group.find("..") != std::string::npos)
    return Error(Error::corrupt, kDomain, "systemd names no control group of " + unit);
  return group;
}

Result<std::string> Systemd::start(const SystemdUnit& unit, int pid, const std::string& description,
                                   const std::vector<SystemdProperty>& properties) {
  const bool slice = unit.unit.ends_with(".slice");
  std::vector<SystemdProperty> all{{"Description", "s", 0, description}, {"DefaultDependencies", "b", 0, {}}};
  for (const char* counted : {"MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"})
    all.push_back({counted, "b", 1, {}});
  if (!slice) {
    all.push_back({"Slice", "s", 0, unit.slice});
    all.push_back({"Delegate", "b", 1, {}});
    all.push_back({"PIDs", "au", static_cast<std::uint64_t>(pid), {}});
    all.push_back({"CollectMode", "s", 0, "inactive-or-failed"});
  }
  all.insert(all.end(), properties.begin(), properties.end());
  DbusWriter body;
  body.text(unit.unit);
  body.text("replace");
  const std::size_t list = body.begin_array(8);
  write_properties(body, all);
  body.end_array(list);
  body.end_array(body.begin_array(8));  // no further units
  const auto ask = [&] {
    return connection_.call(manager_call("StartTransientUnit", "ssa(sv)a(sa(sv))", body.bytes()));
  };
  auto asked = ask();
  const auto exists = [&] {
    const auto* refusal = asked ? nullptr : asked.error().detail<DbusRefusal>();
    return refusal != nullptr && refusal->name == "org.freedesktop.systemd1.UnitExists";
  };
  if (exists() && !slice) {  // a failed one of that name is only a memory
    DbusWriter name;
    name.text(unit.unit);
    (void)connection_.call(manager_call("ResetFailedUnit", "s", name.bytes()));
    asked = ask();
    if (exists())
      return Error(Error::busy, kDomain,
                   "systemd has a unit " + unit.unit +
                       " already; choose another name in linux.cgroupsPath, or: systemctl stop " + unit.unit);
  }
  if (asked) {
    ORC_TRY(wait_for_job(*asked, "start " + unit.unit));
  } else if (!exists()) {
    return asked.error().with_context("systemd refused " + unit.unit);
  }
  return group_of(unit.unit);
}

Result<void> Systemd::set(const std::string& unit, const std::vector<SystemdProperty>& properties) {
  if (properties.empty()) return {};
  DbusWriter body;
  body.text(unit);
  body.boolean(true);
  const std::size_t list = body.begin_array(8);
  write_properties(body, properties);
  body.end_array(list);
  auto answer = connection_.call(manager_call("SetUnitProperties", "sba(sv)", body.bytes()));
  if (!answer) return answer.error().with_context("systemd refused the limits of " + unit);
  return {};
}

Result<void> Systemd::stop(const std::string& unit) {
  DbusWriter body;
  body.text(unit);
  body.text("replace");
  auto asked = connection_.call(manager_call("StopUnit", "ss", body.bytes()));
  if (asked) return wait_for_job(*asked, "stop " + unit);
  const auto* refusal = asked.error().detail<DbusRefusal>();
  if (refusal != nullptr && refusal->name == "org.freedesktop.systemd1.NoSuchUnit") return {};
  return asked.error();
}

}  // namespace orchestra::runtime
