// TTL after finished (kubernetes/pkg/controller/ttlafterfinished): a Job with ttlSecondsAfterFinished goes
// that long after its Complete or Failed condition became true, with its pods. The object must be exactly the
// one that was looked at: a TTL that was raised meanwhile saves it. The time is counted from when the end was
// seen (age_of): a clock that is set deletes nothing early.
#include "controllers/common/observations.hpp"
#include "controllers/job/decide.hpp"
#include "controllers/job/model.hpp"

namespace orchestra::controllers {

namespace {

class TtlAfterFinished final : public Reconciler {
 public:
  std::string name() const override { return "ttl-after-finished"; }
  std::vector<Source> sources() const override {
    return {{jobs(), false,
             [](const View&, const Object&, const Object& now, const KeySink& wake) {
               if (!now || now.deleting() || find(tree(now), "/spec/ttlSecondsAfterFinished") == nullptr)
                 return;
               if (job_finished(now)) wake(ObjectKey::of(now).text());
             },
             [](const Object& old, const Object& now) {
               return job_finished(now) && !(old && job_finished(old));
             }}};
  }

  Actions decide(const std::string& key, const View& view, Now now) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const Object job = view.get(jobs(), id.ns, id.name);
    if (!job || job.deleting()) return actions;
    const json::value* ttl = find(tree(job), "/spec/ttlSecondsAfterFinished");
    if (ttl == nullptr || !ttl->is_number()) return actions;
    const json::object* end = true_condition(tree(job), "Complete");
    if (end == nullptr) end = true_condition(tree(job), "Failed");
    if (end == nullptr) return actions;
    const auto finished = time_at(*end, "/lastTransitionTime");
    if (!finished) return actions;
    const std::int64_t seconds = int_at(tree(job), "/spec/ttlSecondsAfterFinished");
    const Duration rest = Duration(seconds * 1'000'000'000) - age_of(view, jobs(), job, *finished, now);
    if (rest > Duration::zero()) {
      actions.requeue(rest);
      actions.reason = "its time is not over";
      return actions;
    }
    Action& remove =
        actions.remove(jobs(), job, "it finished more than " + std::to_string(seconds) + " s ago", true);
    remove.propagation = "Foreground";
    return actions;
  }
};

}  // namespace

std::shared_ptr<const Reconciler> make_ttl_after_finished_reconciler() {
  return std::make_shared<TtlAfterFinished>();
}

}  // namespace orchestra::controllers
