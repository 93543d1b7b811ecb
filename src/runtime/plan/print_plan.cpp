#include <cstring>
#include <sstream>

#include "runtime/plan/make_plan.hpp"

namespace orchestra::runtime {
namespace {
std::string hex(std::uint64_t value) {
  std::ostringstream out;
  out << "0x" << std::hex << value;
  return out.str();
}

void print_texts(std::ostream& out, const char* name, const wire::Plan* plan, wire::Table table) {
  const auto* all = wire::table_at<wire::Text>(plan, table);
  for (std::uint32_t i = 0; i < table.count; ++i) out << name << " " << wire::text_at(plan, all[i]) << "\n";
}

void print_maps(std::ostream& out, const wire::Plan* plan, wire::Table maps) {
  const auto* all = wire::table_at<wire::IdMapStep>(plan, maps);
  for (std::uint32_t i = 0; i < maps.count; ++i)
    out << " " << all[i].inside << ":" << all[i].outside << ":" << all[i].count;
}

void print_words(std::ostream& out, const char* name, const wire::Plan* plan, wire::Table words) {
  if (words.count == 0) return;
  out << name;
  for (std::uint32_t i = 0; i < words.count; ++i)
    out << " " << hex(wire::table_at<std::uint64_t>(plan, words)[i]);
  out << "\n";
}

/// What most containers have nothing of.
void print_extras(std::ostream& out, const wire::Plan* plan) {
  if (plan->uid_maps.count != 0) {
    out << "uids";
    print_maps(out, plan, plan->uid_maps);
    out << "\ngids";
    print_maps(out, plan, plan->gid_maps);
    out << "\n";
  }
  const auto* joins = wire::table_at<wire::JoinStep>(plan, plan->joins);
  for (std::uint32_t i = 0; i < plan->joins.count; ++i)
    out << "join " << hex(joins[i].clone_flag) << " " << wire::text_at(plan, joins[i].path) << "\n";
  if (plan->time_offsets != 0) out << "time " << wire::text_at(plan, plan->time_offsets);
  if (plan->scheduler.count != 0) {
    const auto& step = *wire::table_at<wire::SchedulerStep>(plan, plan->scheduler);
    out << "scheduler " << step.policy << " flags=" << hex(step.flags) << " nice=" << step.nice
        << " priority=" << step.priority << " " << step.runtime << "/" << step.deadline << "/" << step.period
        << "\n";
  }
  if (plan->io_priority >= 0) out << "io priority " << plan->io_priority << "\n";
  if (plan->personality >= 0) out << "personality " << plan->personality << "\n";
  print_words(out, "cpus", plan, plan->affinity);
  print_words(out, "cpus at last", plan, plan->affinity_final);
  if (plan->memory_policy >= 0) out << "memory policy " << plan->memory_policy << "\n";
  print_words(out, "memory nodes", plan, plan->memory_nodes);
  if (plan->apparmor != 0) out << "apparmor " << wire::text_at(plan, plan->apparmor) << "\n";
  if (plan->selinux != 0) out << "selinux " << wire::text_at(plan, plan->selinux) << "\n";
  if (plan->preserved_fds != 0) out << "descriptors " << plan->preserved_fds << "\n";
  if (plan->notify_socket != 0)
    out << "listener " << wire::text_at(plan, plan->notify_socket) << " "
        << wire::text_at(plan, plan->notify_head) << "0" << wire::text_at(plan, plan->notify_middle) << "0"
        << wire::text_at(plan, plan->notify_tail) << "\n";
}

void print_mounts(std::ostream& out, const wire::Plan* plan) {
  const auto* steps = wire::table_at<wire::MountStep>(plan, plan->mounts);
  for (std::uint32_t i = 0; i < plan->mounts.count; ++i) {
    const wire::MountStep& step = steps[i];
    if (step.kind == wire::MountKind::devices) {
      out << "devices " << wire::text_at(plan, step.target) << "\n";
      continue;
    }
    out << (step.kind == wire::MountKind::bind ? std::string("bind ")
                                               : std::string("mount ") + wire::text_at(plan, step.type) + " ")
        << wire::text_at(plan, step.source) << (step.below != 0 ? " below " : "")
        << (step.below != 0 ? wire::text_at(plan, step.below) : "") << " on "
        << wire::text_at(plan, step.target) << " set=" << hex(step.attr_set)
        << " clear=" << hex(step.attr_clear) << " propagation=" << hex(step.propagation)
        << (step.recursive != 0 ? " recursive" : "") << (step.optional != 0 ? " optional" : "")
        << (step.copy_up != 0 ? " copy-up" : "");
    if (step.all_set != 0 || step.all_clear != 0)
      out << " all-set=" << hex(step.all_set) << " all-clear=" << hex(step.all_clear);
    if (step.mapping != wire::IdMapping::none) {
      out << (step.mapping == wire::IdMapping::own ? " ids" : " ids-of-container")
          << (step.mapping_recursive != 0 ? "-recursive" : "");
      print_maps(out, plan, step.uids);
    }
    const auto* options = wire::table_at<wire::Text>(plan, step.options);
    for (std::uint32_t k = 0; k < step.options.count; k += 2) {
      out << " " << wire::text_at(plan, options[k]);
      if (options[k + 1] != 0) out << "=" << wire::text_at(plan, options[k + 1]);
    }
    out << "\n";
  }
}
}  // namespace

std::string print_plan(std::string_view block) {
  // The block has to lie on an 8-byte boundary, which a string's bytes do not promise.
  std::vector<std::uint64_t> aligned((block.size() + 7) / 8);
  if (!block.empty()) std::memcpy(aligned.data(), block.data(), block.size());
  const auto* bytes = reinterpret_cast<const char*>(aligned.data());
  if (!wire::plan_is_sound(bytes, block.size())) return "not sound\n";
  const auto* plan = reinterpret_cast<const wire::Plan*>(bytes);
  std::ostringstream out;
  out << "flags " << hex(plan->flags) << "\nnamespaces " << hex(plan->clone_flags) << "\n";
  if (plan->overlay_lower != 0) {
    out << "overlay " << wire::text_at(plan, plan->overlay_lower) << " upper "
        << wire::text_at(plan, plan->overlay_upper) << " below "
        << wire::text_at(plan, plan->overlay_directory) << " on " << wire::text_at(plan, plan->overlay_target)
        << "\n";
  } else {
    out << "root " << wire::text_at(plan, plan->root) << "\n";
  }
  print_texts(out, "cgroup", plan, plan->cgroup_files);
  if (plan->cgroup_unified != 0) out << "born in " << wire::text_at(plan, plan->cgroup_unified) << "\n";
  print_mounts(out, plan);
  print_texts(out, "mask", plan, plan->masked);
  print_texts(out, "read-only", plan, plan->read_only);
  out << "user " << plan->uid << ":" << plan->gid;
  for (std::uint32_t i = 0; i < plan->groups.count; ++i)
    out << "," << wire::table_at<std::uint32_t>(plan, plan->groups)[i];
  out << "\ncapabilities bounding=" << hex(plan->cap_bounding) << " effective=" << hex(plan->cap_effective)
      << "\n";
  const auto* limits = wire::table_at<wire::LimitStep>(plan, plan->limits);
  for (std::uint32_t i = 0; i < plan->limits.count; ++i) {
    out << "limit " << limits[i].resource << " " << limits[i].soft << " " << limits[i].hard << "\n";
  }
  print_extras(out, plan);
  out << "seccomp " << plan->seccomp.count
      << (plan->seccomp_flags != 0 ? " flags=" + hex(plan->seccomp_flags) : "") << "\ncwd "
      << wire::text_at(plan, plan->cwd) << "\n";
  print_texts(out, "arg", plan, plan->args);
  print_texts(out, "env", plan, plan->env);
  return out.str();
}

}  // namespace orchestra::runtime
