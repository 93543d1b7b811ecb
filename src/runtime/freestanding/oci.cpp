// Role `oci`: makes one container for `orchestra oci create`, then leaves it to the caller's subreaper.
#include "init_steps.hpp"
#include "roles.hpp"

namespace orch {
int run_oci_create() { return 2; }
}  // namespace orch
