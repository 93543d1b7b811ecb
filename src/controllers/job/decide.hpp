#pragma once
// Job: pods that end, counted exactly; and what is left of a Job after its time. Pure; see decide.cpp,
// ttl.cpp.
#include <memory>

#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {
std::shared_ptr<const Reconciler> make_job_reconciler();
std::shared_ptr<const Reconciler> make_ttl_after_finished_reconciler();
}  // namespace orchestra::controllers
