// Job controller (kubernetes/pkg/controller/job/job_controller.go).
//
// Every pod counts exactly once, whatever stops in between: a pod carries a finalizer, so it cannot vanish
// uncounted. Its UID goes into status.uncountedTerminatedPods (write 1), then the finalizer comes off (write
// 2), and when that is seen the UID leaves the list and the counter rises, both in one write (3). A stop
// after any write repeats nothing: a UID in the list is never added again, a pod without the finalizer is
// never looked at again. Indexed successes need no list: completedIndexes itself is the count.
//
// Pauses and deadlines are counted from when this controller saw what began them (age_of): the clocks of
// nodes go wrong, and its own may be set.
//
// A Job first gets FailureTarget or SuccessCriteriaMet; Failed or Complete only when all its pods have ended.
#include "controllers/job/decide.hpp"

#include <algorithm>
#include <map>

#include "controllers/common/observations.hpp"
#include "controllers/job/model.hpp"

namespace orchestra::controllers {

namespace {

constexpr std::size_t kBurst = 500;         // pods created or deleted by one decision
constexpr std::size_t kUncountedMax = 500;  // UIDs in the status at a time
constexpr const char* kOrphan = "orphan:";  // key of a pod that carries the finalizer and has no owner

struct Outcome {
  std::string type, reason, message;  // type: FailureTarget or SuccessCriteriaMet
};

struct Pass {
  const Object& job;
  const View& view;
  const Now now;
  Actions& actions;

  json::value status = json::object();
  bool indexed = false, per_index = false, only_failed = false, suspended = false;
  std::int64_t completions = 0, parallelism = 1;
  bool has_completions = false;
  std::int64_t backoff_limit = 6, index_limit = 0;

  std::vector<Object> all = {}, active = {}, terminating = {};
  std::set<std::string> uncounted_good = {}, uncounted_bad = {};
  std::int64_t counted_good = 0, counted_bad = 0;
  std::vector<Object> fresh_good = {}, fresh_bad = {};  // ended, with finalizer, not in the list
  std::set<std::string> delayed = {};                   // UIDs whose finalizer has to stay yet
  IndexSet done = {}, failed_indexes = {};
  std::optional<Outcome> outcome = {};
  std::vector<Object> release = {};  // finalizers to take off once the status is written
  std::vector<Object> doomed = {};   // pods to remove, their finalizer first if `strip`
  bool strip = false;

  const json::value& root() const { return tree(job); }

  void read() {
    if (const json::value* before = find(root(), "/status"); before != nullptr && before->is_object())
      status = *before;
    indexed = string_at(root(), "/spec/completionMode") == "Indexed";
    const json::value* given = find(root(), "/spec/completions");
    has_completions = given != nullptr && given->is_number();
    completions = int_at(root(), "/spec/completions");
    parallelism = int_at(root(), "/spec/parallelism", 1);
    backoff_limit = int_at(root(), "/spec/backoffLimit", 6);
    const json::value* limit = find(root(), "/spec/backoffLimitPerIndex");
    per_index = indexed && limit != nullptr && limit->is_number();
    index_limit = int_at(root(), "/spec/backoffLimitPerIndex");
    only_failed =
        string_at(root(), "/spec/podReplacementPolicy",
                  object_at(root(), "/spec/podFailurePolicy") != nullptr ? "Failed"
                                                                         : "TerminatingOrFailed") == "Failed";
    suspended = bool_at(root(), "/spec/suspend");
    counted_good = int_at(status, "/succeeded");
    counted_bad = int_at(status, "/failed");
    const auto uids = [&](const char* pointer, std::set<std::string>& out) {
      if (const json::array* list = array_at(status, pointer)) {
        for (const json::value& uid : *list) {
          if (uid.is_string()) out.emplace(uid.get_string());
        }
      }
    };
    uids("/uncountedTerminatedPods/succeeded", uncounted_good);
    uids("/uncountedTerminatedPods/failed", uncounted_bad);
    done = parse_indexes(string_at(status, "/completedIndexes"), completions);
    failed_indexes = parse_indexes(string_at(status, "/failedIndexes"), completions);
  }

  bool pod_failed(const Object& pod) const {
    const std::string phase = string_at(tree(pod), "/status/phase");
    if (phase == "Failed") return true;
    return !only_failed && pod.deleting() && phase != "Succeeded";
  }

  // UIDs whose finalizer is off have been seen off: they count now.
  void settle_uncounted() {
    std::map<std::string, bool> tracked;
    for (const Object& pod : all) tracked[pod.uid()] = has_tracking(pod);
    const auto settle = [&](std::set<std::string>& list, std::int64_t& counter) {
      for (auto it = list.begin(); it != list.end();) {
        const auto pod = tracked.find(*it);
        if (pod != tracked.end() && pod->second) {
          ++it;
          continue;
        }
        ++counter;
        it = list.erase(it);
      }
    };
    settle(uncounted_good, counted_good);
    settle(uncounted_bad, counted_bad);
  }

  void sort_pods() {
    for (const Object& pod : all) {
      const std::string phase = string_at(tree(pod), "/status/phase");
      if (pod_active(pod)) active.push_back(pod);
      if (pod.deleting() && !pod_terminal(pod)) terminating.push_back(pod);
      if (!has_tracking(pod) || uncounted_good.contains(pod.uid()) || uncounted_bad.contains(pod.uid()))
        continue;
      if (phase == "Succeeded") {
        fresh_good.push_back(pod);
      } else if (pod_failed(pod)) {
        fresh_bad.push_back(pod);
      }
    }
    if (!indexed) return;
    for (const Object& pod : fresh_good) {
      if (const auto index = index_of(pod, completions)) done.insert(*index);
    }
    if (!per_index) return;
    for (const Object& pod : fresh_bad) {
      const auto index = index_of(pod, completions);
      if (!index) continue;
      const PolicyAction action = match_failure_policy(root(), pod).action;
      const std::int64_t before = to_int(annotation(pod, kIndexFailures).value_or("0")).value_or(0);
      if (action == PolicyAction::fail_index || (action != PolicyAction::ignore && before >= index_limit))
        failed_indexes.insert(*index);
    }
  }

  bool ignored(const Object& pod) const {
    return match_failure_policy(root(), pod).action == PolicyAction::ignore;
  }
  // Before and after track(), which puts what is fresh on the lists.
  std::int64_t succeeded() const {
    if (indexed) return static_cast<std::int64_t>(done.size());
    return counted_good + static_cast<std::int64_t>(uncounted_good.size()) +
           std::count_if(fresh_good.begin(), fresh_good.end(),
                         [&](const Object& pod) { return !uncounted_good.contains(pod.uid()); });
  }
  std::int64_t failed() const {
    return counted_bad + static_cast<std::int64_t>(uncounted_bad.size()) +
           std::count_if(fresh_bad.begin(), fresh_bad.end(), [&](const Object& pod) {
             return !uncounted_bad.contains(pod.uid()) && !ignored(pod);
           });
  }

  // With restartPolicy OnFailure, restarts of containers count.
  bool restarts_exceeded() const {
    if (string_at(root(), "/spec/template/spec/restartPolicy") != "OnFailure") return false;
    std::int64_t restarts = 0;
    for (const Object& pod : active) {
      for (const char* list : {"/status/initContainerStatuses", "/status/containerStatuses"}) {
        if (const json::array* statuses = array_at(tree(pod), list)) {
          for (const json::value& each : *statuses) restarts += int_at(each, "/restartCount");
        }
      }
    }
    return backoff_limit == 0 ? restarts > 0 : restarts >= backoff_limit;
  }

  void judge() {
    for (const char* type : {"FailureTarget", "SuccessCriteriaMet"}) {
      if (const json::object* condition = true_condition(root(), type)) {
        outcome = {type, string_at(*condition, "/reason"), string_at(*condition, "/message")};
        return;
      }
    }
    const auto fail = [&](const char* reason, std::string message) {
      if (!outcome) outcome = {"FailureTarget", reason, std::move(message)};
    };
    for (const Object& pod : fresh_bad) {
      const PolicyMatch match = match_failure_policy(root(), pod);
      if (match.action == PolicyAction::fail_job) fail("PodFailurePolicy", match.message);
    }
    if (failed() > backoff_limit || restarts_exceeded())
      fail("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    const auto started = time_at(status, "/startTime");
    const json::value* deadline = find(root(), "/spec/activeDeadlineSeconds");
    if (deadline != nullptr && deadline->is_number() && started && !suspended) {
      const Duration rest = Duration(int_at(root(), "/spec/activeDeadlineSeconds") * 1'000'000'000) -
                            age_of(view, jobs(), job, *started, now);
      if (rest <= Duration::zero()) {
        fail("DeadlineExceeded", "Job was active longer than specified deadline");
      } else {
        actions.requeue(rest);
      }
    }
    if (per_index) {
      const json::value* most = find(root(), "/spec/maxFailedIndexes");
      const auto lost = static_cast<std::int64_t>(failed_indexes.size());
      if (most != nullptr && most->is_number() && lost > int_at(root(), "/spec/maxFailedIndexes")) {
        fail("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes");
      } else if (lost > 0 && lost + succeeded() >= completions) {
        fail("FailedIndexes", "Job has failed indexes");
      }
    }
    if (outcome) return;
    if (indexed) {
      if (const auto message = match_success_policy(root(), done, completions)) {
        outcome = {"SuccessCriteriaMet", "SuccessPolicy", *message};
        return;
      }
    }
    const bool complete =
        has_completions ? succeeded() >= completions && active.empty() : succeeded() > 0 && active.empty();
    if (complete && !suspended)
      outcome = {"SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods"};
  }

  // The last failed pod of an index keeps its finalizer until its replacement exists: it alone knows how
  // often the index failed.
  void find_delayed() {
    if (!per_index || outcome || suspended) return;
    IndexSet busy;
    for (const Object& pod : active) {
      if (const auto index = index_of(pod, completions)) busy.insert(*index);
    }
    std::map<std::int64_t, const Object*> last;
    for (const Object& pod : fresh_bad) {
      const auto index = index_of(pod, completions);
      if (!index || busy.contains(*index) || done.contains(*index) || failed_indexes.contains(*index))
        continue;
      const Object*& slot = last[*index];
      if (slot == nullptr || failures_before(*slot) <= failures_before(pod)) slot = &pod;
    }
    for (const auto& [index, pod] : last) delayed.insert(pod->uid());
  }
  static std::int64_t failures_before(const Object& pod) {
    return to_int(annotation(pod, kIndexFailures).value_or("0")).value_or(0);
  }

  void track() {
    const auto room = [&] { return uncounted_good.size() + uncounted_bad.size() < kUncountedMax; };
    for (const Object& pod : all) {
      if (has_tracking(pod) && (uncounted_good.contains(pod.uid()) || uncounted_bad.contains(pod.uid())))
        release.push_back(pod);
    }
    for (const Object& pod : fresh_good) {
      if (!indexed) {
        if (!room()) {
          actions.requeue(Duration::zero());
          break;
        }
        uncounted_good.insert(pod.uid());
      }
      release.push_back(pod);
    }
    std::vector<Object> bad = fresh_bad;
    const bool failing = outcome && outcome->type == "FailureTarget";
    if (outcome) {
      // Pods that still run when the Job is over will never succeed for it.
      for (const Object& pod : all) {
        if (has_tracking(pod) && pod_active(pod)) bad.push_back(pod);
      }
    }
    for (const Object& pod : bad) {
      if (delayed.contains(pod.uid())) continue;
      const bool in_range = !indexed || index_of(pod, completions);
      const bool counts = in_range && !ignored(pod) && (failing || pod_failed(pod));
      if (counts) {
        if (!room()) {
          actions.requeue(Duration::zero());
          break;
        }
        uncounted_bad.insert(pod.uid());
      }
      release.push_back(pod);
    }
  }

  // How many pods there should be, and the pods to end.
  void manage() {
    if (outcome) {
      doomed = active;
      return;
    }
    if (suspended) {
      doomed = active;
      strip = true;
      return;
    }
    const auto have = static_cast<std::int64_t>(active.size());
    std::int64_t wanted = parallelism;
    if (!has_completions) {
      if (succeeded() > 0) wanted = have;
    } else {
      wanted = std::clamp<std::int64_t>(completions - succeeded(), 0, parallelism);
    }
    std::vector<Object> surplus = duplicates();
    if (have - static_cast<std::int64_t>(surplus.size()) > wanted) {
      for (const Object& pod : deletion_order(active, active, now)) {
        if (have - static_cast<std::int64_t>(surplus.size()) <= wanted) break;
        const bool listed = std::any_of(surplus.begin(), surplus.end(),
                                        [&](const Object& each) { return each.uid() == pod.uid(); });
        if (!listed) surplus.push_back(pod);
      }
    }
    if (!surplus.empty()) {
      doomed = std::move(surplus);
      strip = true;
      return;
    }
    std::int64_t missing = wanted - have;
    if (only_failed) missing -= static_cast<std::int64_t>(terminating.size());
    if (missing > 0) create(std::min<std::int64_t>(missing, kBurst));
  }

  // Pods whose index another active pod has as well, or that have none in range.
  std::vector<Object> duplicates() const {
    std::vector<Object> surplus;
    if (!indexed) return surplus;
    IndexSet taken;
    for (const Object& pod : active) {
      const auto index = index_of(pod, completions);
      if (!index || done.contains(*index) || !taken.insert(*index).second) surplus.push_back(pod);
    }
    return surplus;
  }

  // Pause after failures since the last success.
  Duration pause() const {
    std::int64_t last_good = 0;
    for (const Object& pod : all) {
      if (string_at(tree(pod), "/status/phase") == "Succeeded")
        last_good = std::max(last_good, finished_ns(pod));
    }
    std::int64_t failures = 0;
    Duration youngest = Duration::max();
    for (const Object& pod : all) {
      if (!pod_failed(pod) || finished_ns(pod) < last_good) continue;
      // Ended by ourselves (suspended, less parallelism): its finalizer went first.
      if (string_at(tree(pod), "/status/phase") != "Failed" && !has_tracking(pod)) continue;
      ++failures;
      youngest = std::min(youngest, age_of(view, pods(), pod, finished_ns(pod), now));
    }
    return job_pause(failures) - youngest;
  }

  void create(std::int64_t missing) {
    if (!per_index) {
      if (const Duration rest = pause(); rest > Duration::zero()) {
        actions.requeue(rest);
        return;
      }
    }
    if (!indexed) {
      for (std::int64_t i = 0; i < missing; ++i) order_pod(std::nullopt, 0, 0);
      return;
    }
    IndexSet busy;
    for (const Object& pod : active) {
      if (const auto index = index_of(pod, completions)) busy.insert(*index);
    }
    if (only_failed) {
      for (const Object& pod : terminating) {
        if (const auto index = index_of(pod, completions)) busy.insert(*index);
      }
    }
    for (std::int64_t index = 0; index < completions && missing > 0; ++index) {
      if (busy.contains(index) || done.contains(index) || failed_indexes.contains(index)) continue;
      std::int64_t failures = 0;
      std::int64_t ignored_failures = 0;
      if (per_index) {
        const Duration rest = index_pause(index, failures, ignored_failures);
        if (rest > Duration::zero()) {
          actions.requeue(rest);
          continue;
        }
      }
      order_pod(index, failures, ignored_failures);
      --missing;
    }
  }

  Duration index_pause(std::int64_t index, std::int64_t& failures, std::int64_t& ignored_failures) const {
    Duration youngest = Duration::max();
    for (const Object& pod : all) {
      if (!pod_failed(pod) || index_of(pod, completions) != index) continue;
      const bool skip = ignored(pod);
      const std::int64_t skipped = to_int(annotation(pod, kIndexIgnoredFailures).value_or("0")).value_or(0);
      failures = std::max(failures, failures_before(pod) + (skip ? 0 : 1));
      ignored_failures = std::max(ignored_failures, skipped + (skip ? 1 : 0));
      youngest = std::min(youngest, age_of(view, pods(), pod, finished_ns(pod), now));
    }
    return job_pause(failures + ignored_failures) - youngest;
  }

  void order_pod(std::optional<std::int64_t> index, std::int64_t failures, std::int64_t ignored_failures) {
    json::value pod = tree(pod_from_template(*find(root(), "/spec/template"), job));
    array_in(pod, "/metadata/finalizers").push_back(json::value(kTracking));
    if (index) {
      const std::string number = std::to_string(*index);
      object_in(pod, "/metadata/annotations")[kIndexAnnotation] = number;
      object_in(pod, "/metadata/labels")[kIndexAnnotation] = number;
      if (per_index) object_in(pod, "/metadata/annotations")[kIndexFailures] = std::to_string(failures);
      if (ignored_failures > 0)
        object_in(pod, "/metadata/annotations")[kIndexIgnoredFailures] = std::to_string(ignored_failures);
      set_at(pod, "/metadata/generateName", json::value(job.name() + "-" + number + "-"));
      set_at(pod, "/spec/hostname", json::value(job.name() + "-" + number));
      for (const char* list : {"/spec/containers", "/spec/initContainers"}) add_index_variable(pod, list);
    }
    Action& create =
        actions.create(pods(), object_from_tree(std::move(pod)),
                       index ? "index " + std::to_string(*index) + " is to be done" : "work is left");
    create.independent = true;
    create.announce = Announcement{job, "SuccessfulCreate", "Created pod: "};
  }

  static void add_index_variable(json::value& pod, const char* list) {
    if (array_at(pod, list) == nullptr) return;
    for (json::value& container : array_in(pod, list)) {
      json::array& env = array_in(container, "/env");
      const bool own = std::any_of(env.begin(), env.end(), [](const json::value& each) {
        return string_at(each, "/name") == "JOB_COMPLETION_INDEX";
      });
      if (own) continue;
      const std::string path = std::string("metadata.labels['") + kIndexAnnotation + "']";
      env.push_back(json::object{{"name", "JOB_COMPLETION_INDEX"},
                                 {"valueFrom", {{"fieldRef", {{"apiVersion", "v1"}, {"fieldPath", path}}}}}});
    }
  }

  void put(const char* name, std::int64_t value) {
    json::object& fields = status.get_object();
    if (value != 0) {
      fields[name] = value;
    } else {
      fields.erase(name);
    }
  }

  void suspend_condition() {
    const json::object* before = find_condition(status, "Suspended");
    json::array& conditions = array_in(status, "/conditions");
    if (suspended) {
      const bool news = set_condition(conditions, {"Suspended", "True", "JobSuspended", "Job suspended"},
                                      now.wall_ns, false);
      if (news) actions.event(job, "Normal", "Suspended", "Job suspended");
      status.get_object().erase("startTime");
    } else if (before != nullptr && string_at(*before, "/status") == "True") {
      set_condition(conditions, {"Suspended", "False", "JobResumed", "Job resumed"}, now.wall_ns, false);
      actions.event(job, "Normal", "Resumed", "Job resumed");
    }
    if (!suspended && !time_at(status, "/startTime"))
      status.get_object()["startTime"] = format_time(now.wall_ns);
  }

  // Whether anything of the Job may still run: not with pods that are on their way out, nor uncounted ones.
  bool all_ended() const {
    return active.empty() && terminating.empty() && uncounted_good.empty() && uncounted_bad.empty() &&
           release.empty();
  }

  void conclude() {
    if (!outcome) return;
    json::array& conditions = array_in(status, "/conditions");
    set_condition(conditions, {outcome->type, "True", outcome->reason, outcome->message}, now.wall_ns, false);
    // Complete and Failed come with the counters: those that leave the list now are in this very write.
    if (!all_ended()) return;
    const bool failure = outcome->type == "FailureTarget";
    set_condition(conditions, {failure ? "Failed" : "Complete", "True", outcome->reason, outcome->message},
                  now.wall_ns, false);
    if (failure) {
      actions.event(job, "Warning", outcome->reason, outcome->message);
    } else {
      // A clock that was set back must not hold it up: what ends before it began is refused.
      const std::int64_t began = time_at(status, "/startTime").value_or(now.wall_ns);
      status.get_object()["completionTime"] = format_time(std::max(began, now.wall_ns));
      actions.event(job, "Normal", "Completed", "Job completed");
    }
  }

  // True: something that others build upon changed, so the write must not be held back.
  bool write_status() {
    put("active", static_cast<std::int64_t>(active.size()));
    put("succeeded", indexed ? static_cast<std::int64_t>(done.size()) : counted_good);
    put("failed", counted_bad);
    json::object& fields = status.get_object();
    fields["ready"] =
        std::count_if(active.begin(), active.end(), [](const Object& pod) { return pod_ready(pod); });
    fields["terminating"] = static_cast<std::int64_t>(terminating.size());
    if (indexed) {
      if (!done.empty()) fields["completedIndexes"] = format_indexes(done);
      if (per_index) fields["failedIndexes"] = format_indexes(failed_indexes);
    }
    json::object lists;
    const auto list_of = [&](const std::set<std::string>& uids) {
      json::array list;
      for (const std::string& uid : uids) list.push_back(json::value(uid));
      return list;
    };
    if (!uncounted_good.empty()) lists["succeeded"] = list_of(uncounted_good);
    if (!uncounted_bad.empty()) lists["failed"] = list_of(uncounted_bad);
    fields["uncountedTerminatedPods"] = std::move(lists);
    if (const json::array* conditions = array_at(status, "/conditions"); conditions && conditions->empty())
      fields.erase("conditions");
    const json::value* before = find(root(), "/status");
    if (same_meaning(before, &status)) return false;
    bool only_counts = release.empty() && doomed.empty();
    for (const char* name : {"/conditions", "/uncountedTerminatedPods", "/completedIndexes", "/failedIndexes",
                             "/succeeded", "/failed", "/startTime"}) {
      const json::value* old = before == nullptr ? nullptr : find(*before, name);
      if (!same_meaning(old, find(status, name))) only_counts = false;
    }
    json::value copy = root();
    set_at(copy, "/status", status);
    Action write;
    Actions first;
    first.update_status(jobs(), object_from_tree(std::move(copy)), "pods are counted").coalesce = only_counts;
    // Before everything else: finalizers come off only after their UIDs are on record.
    actions.list.insert(actions.list.begin(), std::move(first.list.front()));
    return true;
  }

  void order_ends() {
    for (const Object& pod : release)
      actions.update(pods(), without_tracking(pod), "it is on record").independent = true;
    const std::size_t count = std::min(doomed.size(), kBurst);
    for (std::size_t i = 0; i < count; ++i) {
      const Object& pod = doomed[i];
      const bool already = std::any_of(release.begin(), release.end(),
                                       [&](const Object& each) { return each.uid() == pod.uid(); });
      if (strip && has_tracking(pod) && !already)
        actions.update(pods(), without_tracking(pod), "it is not to count as a failure");
      Action& remove = actions.remove(pods(), pod,
                                      suspended ? "the job is suspended"
                                      : outcome ? "the job is over"
                                                : "more pods than parallelism");
      remove.announce = Announcement{job, "SuccessfulDelete", "Deleted pod: "};
    }
    if (doomed.size() > kBurst) actions.requeue(Duration::zero());
  }
};

class JobReconciler final : public Reconciler {
 public:
  std::string name() const override { return "job"; }

  std::vector<Source> sources() const override {
    Source of_pods = watch_owned(pods(), "batch/v1", "Job");
    auto owned = of_pods.keys;
    of_pods.keys = [owned](const View& view, const Object& old, const Object& now, const KeySink& wake) {
      owned(view, old, now, wake);
      if (!now || now.controller() != nullptr) return;
      if (has_tracking(now)) wake(ObjectKey{now.ns(), kOrphan + now.name()}.text());
      if (now.deleting()) return;
      for (const Object& job : view.list(jobs(), now.ns())) {
        const auto selector = LabelSelector::parse(find(tree(job), "/spec/selector"));
        if (selector && selector->matches(now.labels())) wake(ObjectKey::of(job).text());
      }
    };
    of_pods.observes = [](const Object& old, const Object& now) {
      const OwnerReference* owner = now.controller();
      return owner != nullptr && owner->kind == "Job" && pod_came_to_end(old, now);
    };
    Source of_jobs = watch_self(jobs());
    of_jobs.observes = [](const Object& old, const Object& now) {
      const json::value* started = find(tree(now), "/status/startTime");
      return started != nullptr && !(old && same_meaning(find(tree(old), "/status/startTime"), started));
    };
    return {std::move(of_jobs), std::move(of_pods)};
  }

  Actions decide(const std::string& key, const View& view, Now now) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    if (id.name.starts_with(kOrphan)) {
      const Object pod = view.get(pods(), id.ns, id.name.substr(std::string_view(kOrphan).size()));
      if (pod && pod.controller() == nullptr && has_tracking(pod))
        actions.update(pods(), without_tracking(pod), "no job counts it any more");
      return actions;
    }
    const Object job = view.get(jobs(), id.ns, id.name);
    release_strangers(job, id, view, actions);
    if (!job) return actions;
    const std::string manager = string_at(tree(job), "/spec/managedBy");
    if (!manager.empty() && manager != "kubernetes.io/job-controller") {
      actions.reason = "it is managed by " + manager;
      return actions;
    }
    Pass pass{job, view, now, actions};
    pass.read();
    if (!claim(pass)) return actions;
    if (job_finished(job)) {
      for (const Object& pod : pass.all) {
        if (has_tracking(pod)) actions.update(pods(), without_tracking(pod), "the job is over");
      }
      actions.reason = "it is over";
      return actions;
    }
    pass.settle_uncounted();
    pass.sort_pods();
    pass.suspend_condition();
    pass.judge();
    pass.find_delayed();
    pass.track();
    if (!job.deleting()) pass.manage();
    pass.conclude();
    pass.write_status();
    pass.order_ends();
    actions.reason = std::to_string(pass.active.size()) + " active, " + std::to_string(pass.succeeded()) +
                     " succeeded, " + std::to_string(pass.failed()) + " failed" +
                     (pass.outcome ? ", " + pass.outcome->reason : "");
    return actions;
  }

  Actions failed(const std::string& key, const View& view, Now, const Action& action,
                 const Error& error) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const Object job = view.get(jobs(), id.ns, id.name);
    const bool create = action.verb == Action::Verb::create;
    if (!job || (!create && action.verb != Action::Verb::remove)) return actions;
    actions.event(job, "Warning", create ? "FailedCreate" : "FailedDelete",
                  (create ? "Error creating: " : "Error deleting: ") + error.message());
    return actions;
  }

 private:
  // Pods of a Job that is gone (or of one that had the name before): nobody will count them.
  static void release_strangers(const Object& job, const ObjectKey& id, const View& view, Actions& actions) {
    if (job) return;
    for (const Object& pod : view.list(pods(), id.ns)) {
      const OwnerReference* owner = pod.controller();
      if (owner == nullptr || owner->kind != "Job" || owner->name != id.name || !has_tracking(pod)) continue;
      Action& release = actions.update(pods(), without_tracking(pod), "its job is gone");
      release.checks.push_back({jobs(), id.ns, id.name, owner->uid, LiveCheck::Expect::absent});
    }
  }

  static bool claim(Pass& pass) {
    bool settled = true;
    const auto selector = LabelSelector::parse(find(pass.root(), "/spec/selector"));
    if (!selector) {
      pass.actions.event(pass.job, "Warning", "InvalidSelector", selector.error().message());
      return false;
    }
    for (const Object& pod : pass.view.find(pods(), ObjectCache::kOwner, pass.job.uid())) {
      const OwnerReference* owner = pod.controller();
      if (owner == nullptr || owner->uid != pass.job.uid()) continue;
      if (selector->matches(pod.labels()) || pass.job.deleting()) {
        pass.all.push_back(pod);
      } else {
        pass.actions.update(pods(), released(without_tracking(pod), pass.job.uid()),
                            "its labels no longer match the selector");
        settled = false;
      }
    }
    if (pass.job.deleting() || job_finished(pass.job)) return settled;
    for (const Object& pod : selector->select_orphans(pass.view, pods(), pass.job.ns())) {
      if (pod.deleting()) continue;
      Action& adopt =
          pass.actions.update(pods(), adopted(pod, pass.job), "an orphan that matches the selector");
      adopt.checks.push_back(
          {jobs(), pass.job.ns(), pass.job.name(), pass.job.uid(), LiveCheck::Expect::present});
      settled = false;
    }
    return settled;
  }
};

}  // namespace

std::shared_ptr<const Reconciler> make_job_reconciler() { return std::make_shared<JobReconciler>(); }

}  // namespace orchestra::controllers
