// CronJob controller (kubernetes/pkg/controller/cronjob/cronjob_controllerv2.go, utils.go).
//
// A Job is named after the time that it stands for, so starting it twice is impossible. After a pause only
// the latest missed run starts. Times are exact (the runner's timer), so small starting deadlines work.
#include "controllers/cronjob/decide.hpp"

#include <algorithm>

#include "controllers/common/objects.hpp"
#include "controllers/job/model.hpp"
#include "orchestra/cron_schedule.hpp"

namespace orchestra::controllers {

namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
// A clock that is set forward is noticed at the latest after this: waits are by the steady one.
constexpr Duration kLook = std::chrono::minutes(5);
constexpr std::int64_t kMissedMax = 100;  // more are an Event
constexpr const char* kScheduledAt = "batch.kubernetes.io/cronjob-scheduled-timestamp";

std::int64_t seconds_at(const json::value& root, std::string_view pointer, std::int64_t other) {
  const auto at = time_at(root, pointer);
  return at ? *at / kSecond : other;
}

struct Pass {
  const Object& cron;
  const View& view;
  const Now now;
  Actions& actions;
  std::vector<Object> mine = {};
  json::value status = json::object();

  const json::value& root() const { return tree(cron); }

  void read() {
    if (const json::value* before = find(root(), "/status"); before != nullptr && before->is_object())
      status = *before;
    for (Object& job : view.find(jobs(), ObjectCache::kOwner, cron.uid())) {
      const OwnerReference* owner = job.controller();
      if (owner != nullptr && owner->uid == cron.uid()) mine.push_back(std::move(job));
    }
  }

  json::array& active() { return array_in(status, "/active"); }

  bool is_active(const std::string& uid) {
    return std::any_of(active().begin(), active().end(),
                       [&](const json::value& each) { return string_at(each, "/uid") == uid; });
  }

  void add_active(const Object& job) {
    active().push_back(json::object{{"apiVersion", "batch/v1"},
                                    {"kind", "Job"},
                                    {"name", job.name()},
                                    {"namespace", job.ns()},
                                    {"uid", job.uid()},
                                    {"resourceVersion", job.resource_version()}});
  }

  // Jobs that ended or vanished leave status.active; ones that we made and did not record enter it.
  void settle_active() {
    for (const Object& job : mine) {
      const bool over = job_finished(job);
      if (over && is_active(job.uid())) {
        drop_active(job.uid());
        const bool complete = true_condition(tree(job), "Complete") != nullptr;
        actions.event(
            cron, "Normal", "SawCompletedJob",
            "Saw completed job: " + job.name() + ", condition: " + (complete ? "Complete" : "Failed"));
        const std::string ended = string_at(tree(job), "/status/completionTime");
        const auto before = time_at(status, "/lastSuccessfulTime");
        const auto at = parse_time(ended);
        if (complete && at && (!before || *before < *at)) status.get_object()["lastSuccessfulTime"] = ended;
      } else if (!over && !job.deleting() && !is_active(job.uid())) {
        add_active(job);
      }
    }
    std::vector<std::string> missing;
    for (const json::value& each : active()) {
      const std::string uid = string_at(each, "/uid");
      const bool there =
          std::any_of(mine.begin(), mine.end(), [&](const Object& job) { return job.uid() == uid; });
      if (there) continue;
      missing.push_back(uid);
      actions.event(cron, "Normal", "MissingJob", "Active job went missing: " + string_at(each, "/name"));
    }
    for (const std::string& uid : missing) drop_active(uid);
  }

  void drop_active(const std::string& uid) {
    json::array& list = active();
    for (auto it = list.begin(); it != list.end();)
      it = string_at(*it, "/uid") == uid ? list.erase(it) : it + 1;
  }

  void prune(const char* condition, std::int64_t limit) {
    std::vector<Object> over;
    for (const Object& job : mine) {
      if (true_condition(tree(job), condition) != nullptr && !job.deleting()) over.push_back(job);
    }
    std::sort(over.begin(), over.end(), [](const Object& a, const Object& b) {
      const auto ta = time_at(tree(a), "/status/startTime").value_or(INT64_MAX);
      const auto tb = time_at(tree(b), "/status/startTime").value_or(INT64_MAX);
      return ta != tb ? ta < tb : a.name() < b.name();
    });
    for (std::size_t i = 0; i + static_cast<std::size_t>(std::max<std::int64_t>(limit, 0)) < over.size(); ++i)
      remove(over[i], "more finished jobs than its history keeps");
  }

  void remove(const Object& job, std::string why) {
    Action& remove = actions.remove(jobs(), job, std::move(why));
    remove.propagation = "Background";
    remove.announce = Announcement{cron, "SuccessfulDelete", "Deleted job "};
  }

  // The latest time that is due and has not been acted upon.
  std::optional<std::int64_t> due(const CronSchedule& schedule, const TimeZone& zone) {
    const std::int64_t wall = now.wall_ns / kSecond;
    std::int64_t since =
        seconds_at(status, "/lastScheduleTime", seconds_at(root(), "/metadata/creationTimestamp", wall));
    const json::value* deadline = find(root(), "/spec/startingDeadlineSeconds");
    if (deadline != nullptr && deadline->is_number())
      since = std::max(since, wall - int_at(root(), "/spec/startingDeadlineSeconds") - 1);
    const auto last = schedule.last(since, wall, zone);
    if (!last) return std::nullopt;
    std::int64_t missed = 0;
    for (auto at = schedule.next(since, zone); at && *at <= *last && missed <= kMissedMax;
         at = schedule.next(*at, zone))
      ++missed;
    if (missed > kMissedMax) {
      actions.event(
          cron, "Warning", "TooManyMissedTimes",
          "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew");
    }
    return last;
  }

  // False: this run does not start.
  bool start(std::int64_t at) {
    const json::value* deadline = find(root(), "/spec/startingDeadlineSeconds");
    if (deadline != nullptr && deadline->is_number() &&
        (at + int_at(root(), "/spec/startingDeadlineSeconds")) * kSecond < now.wall_ns) {
      actions.event(cron, "Warning", "MissSchedule",
                    "Missed scheduled time to start a job: " + format_time(at * kSecond));
      return false;
    }
    if (seconds_at(status, "/lastScheduleTime", -1) == at) return false;
    const std::string policy = string_at(root(), "/spec/concurrencyPolicy", "Allow");
    if (policy == "Forbid" && !active().empty()) {
      actions.event(cron, "Normal", "JobAlreadyActive",
                    "Not starting job because prior execution is running and concurrency policy is Forbid");
      return false;
    }
    if (policy == "Replace") {
      for (const Object& job : mine) {
        if (is_active(job.uid()) && job.name() != job_name(at)) {
          remove(job, "the next run replaces it");
          drop_active(job.uid());
        }
      }
    }
    const Object there = view.get(jobs(), cron.ns(), job_name(at));
    if (!there) {
      Action& create = actions.create(jobs(), job(at), "it is due at " + format_time(at * kSecond));
      create.announce = Announcement{cron, "SuccessfulCreate", "Created job "};
    } else if (there.controller() == nullptr || there.controller()->uid != cron.uid()) {
      actions.event(cron, "Warning", "FailedCreate",
                    "Error creating job: job " + there.name() + " exists and is not ours");
      return false;
    }
    status.get_object()["lastScheduleTime"] = format_time(at * kSecond);
    return true;
  }

  std::string job_name(std::int64_t at) const { return cron.name() + "-" + std::to_string(at / 60); }

  Object job(std::int64_t at) const {
    json::object metadata{{"name", job_name(at)}, {"namespace", cron.ns()}};
    for (const char* name : {"labels", "annotations"}) {
      if (const json::value* own = find(root(), std::string("/spec/jobTemplate/metadata/") + name))
        metadata[name] = *own;
    }
    json::value object =
        json::object{{"apiVersion", "batch/v1"}, {"kind", "Job"}, {"metadata", std::move(metadata)}};
    object_in(object, "/metadata/annotations")[kScheduledAt] = format_time(at * kSecond);
    array_in(object, "/metadata/ownerReferences").push_back(controller_reference(cron));
    if (const json::value* spec = find(root(), "/spec/jobTemplate/spec")) set_at(object, "/spec", *spec);
    return object_from_tree(std::move(object));
  }

  void write_status() {
    if (active().empty()) status.get_object().erase("active");
    const json::value* before = find(root(), "/status");
    if (same_meaning(before, &status) || (before == nullptr && status.get_object().empty())) return;
    json::value copy = root();
    set_at(copy, "/status", status);
    actions.update_status(cron_jobs(), object_from_tree(std::move(copy)), "its jobs changed");
  }
};

class CronJobReconciler final : public Reconciler {
 public:
  explicit CronJobReconciler(ZoneSource zones) : zones_(std::move(zones)) {}
  std::string name() const override { return "cronjob"; }
  std::vector<Source> sources() const override {
    return {watch_self(cron_jobs()), watch_owned(jobs(), "batch/v1", "CronJob")};
  }

  Actions decide(const std::string& key, const View& view, Now now) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const Object cron = view.get(cron_jobs(), id.ns, id.name);
    if (!cron) return actions;
    Pass pass{cron, view, now, actions};
    pass.read();
    pass.settle_active();
    if (!cron.deleting()) run(pass);
    pass.write_status();
    return actions;
  }

 private:
  void run(Pass& pass) const {
    const json::value& root = pass.root();
    pass.prune("Complete", int_at(root, "/spec/successfulJobsHistoryLimit", 3));
    pass.prune("Failed", int_at(root, "/spec/failedJobsHistoryLimit", 1));
    if (bool_at(root, "/spec/suspend")) {
      pass.actions.reason = "it is suspended";
      return;
    }
    const auto zone = zones_(string_at(root, "/spec/timeZone"));
    if (!zone) {
      pass.actions.event(pass.cron, "Warning", "UnknownTimeZone",
                         "invalid timeZone: " + zone.error().message());
      pass.actions.reason = zone.error().message();
      return;
    }
    const auto schedule = CronSchedule::parse(string_at(root, "/spec/schedule"));
    if (!schedule) {
      pass.actions.event(pass.cron, "Warning", "UnparseableSchedule",
                         "unparseable schedule: " + schedule.error().message());
      pass.actions.reason = schedule.error().message();
      return;
    }
    if (const auto at = pass.due(*schedule, **zone)) pass.start(*at);
    plan_next(pass, *schedule, **zone);
  }

  static void plan_next(Pass& pass, const CronSchedule& schedule, const TimeZone& zone) {
    const std::int64_t wall = pass.now.wall_ns / kSecond;
    // @every counts from the last run, the other forms from the clock.
    const std::int64_t since = seconds_at(pass.status, "/lastScheduleTime",
                                          seconds_at(pass.root(), "/metadata/creationTimestamp", wall));
    auto at = schedule.next(since, zone);
    if (at && *at <= wall) {
      const auto last = schedule.last(since, wall, zone);
      at = schedule.next(last.value_or(wall), zone);
    }
    if (!at) {
      pass.actions.event(
          pass.cron, "Warning", "UnparseableSchedule",
          "schedule " + string_at(pass.root(), "/spec/schedule") + " does not fire within five years");
      pass.actions.reason = "its schedule does not fire within five years";
      return;
    }
    pass.actions.requeue(std::min(kLook, Duration(*at * kSecond - pass.now.wall_ns)));
    pass.actions.reason = "next at " + format_time(*at * kSecond);
  }

  const ZoneSource zones_;
};

}  // namespace

std::shared_ptr<const Reconciler> make_cron_job_reconciler(ZoneSource zones) {
  return std::make_shared<CronJobReconciler>(std::move(zones));
}

}  // namespace orchestra::controllers
