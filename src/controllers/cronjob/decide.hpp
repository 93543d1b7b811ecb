#pragma once
// CronJob: makes Jobs at the times of a schedule. Pure; see decide.cpp.
#include <functional>
#include <memory>
#include <string>

#include "orchestra/reconciler.hpp"
#include "orchestra/time_zone.hpp"

namespace orchestra::controllers {
/// Where time zones come from; TimeZone::load in production.
using ZoneSource = std::function<Result<std::shared_ptr<const TimeZone>>(const std::string& name)>;
std::shared_ptr<const Reconciler> make_cron_job_reconciler(ZoneSource zones);
}  // namespace orchestra::controllers
