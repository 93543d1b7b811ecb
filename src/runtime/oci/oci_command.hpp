#pragma once
// The commands of `orchestra oci`.
#include "runtime/linux/cgroups.hpp"
#include "runtime/oci/oci_arguments.hpp"
#include "runtime/oci/oci_state.hpp"
#include "runtime/plan/make_plan.hpp"
#include "runtime/systemd/scope_holder.hpp"

namespace orchestra::runtime {

/// Whether limits of memory are those of cgroup v2.
bool on_unified(const CgroupLayout& layout);

inline constexpr const char* kOciSpecVersion = "1.3.0";  ///< newest runtime-spec that is understood

class OciCommand {
 public:
  OciCommand(OciArguments args, int input, int output, int error);
  /// The exit status; errors are for the caller to print.
  Result<int> run();

 private:
  Result<int> create(bool start_too);
  Result<int> start();
  Result<int> state();
  Result<int> list();
  Result<int> ps();
  Result<int> kill_container();
  Result<int> remove();
  Result<int> exec();
  Result<int> freeze(bool frozen);
  Result<int> update();
  Result<int> events();
  Result<int> features();
  Result<int> spec();

  Result<OciState> load_operand();
  Result<void> start_created(const OciState& state);
  Result<ContainerSpec::Resources> update_resources(const OciState& state, const Cgroups& cgroups) const;
  /// --preserve-fds and what systemd hands over (LISTEN_FDS, told to the program in `process`).
  Result<int> preserved_fds(ContainerSpec::Process& process) const;
  void run_poststop(const OciState& state, const ContainerSpec& spec) const;
  void warn(const std::string& message) const;
  Result<void> delete_container(const OciState& state, bool force);
  Result<std::shared_ptr<Cgroups>> cgroups_of(const OciState& state) const;
  Result<void> place(OciState& state, const ContainerSpec& spec, PlanContext& context);
  /// The group of the unit that systemd made; `holder_` keeps it until the container is in it.
  Result<std::string> start_systemd_unit(OciState& state, const ContainerSpec& spec);
  void stop_systemd_unit(const OciState& state) const;
  Result<std::string> seccomp_of(const ContainerSpec& spec) const;
  Result<ContainerSpec> exec_spec(const OciState& state) const;
  void print(const std::string& text) const;

  const OciArguments args_;
  const int input_, output_, error_;
  const std::string root_;
  const OciStore store_;
  std::unique_ptr<ScopeHolder> holder_;
};

}  // namespace orchestra::runtime
