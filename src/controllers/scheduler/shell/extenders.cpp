// Extenders: programs that are asked over HTTP which nodes will do, how good they are, and to bind
// (kubernetes/pkg/scheduler/{extender.go,schedule_one.go}).
//
// A turn finds the nodes that will do by all other rules; then the questions go out, one after another, while
// other turns place other pods; a later turn places the pod with the answers, as a plugin of the host would
// give them. What changed in between is judged by that turn: a node that is full by then is refused, one that
// came too late is not taken.
#include <algorithm>

#include "controllers/scheduler/shell/impl.hpp"
#include "sched/extender.hpp"
#include "sched/scan.hpp"

namespace orchestra {

using namespace controllers;

namespace {

// As upstream names all of them where it counts who refused a pod.
constexpr const char* kExtender = "Extender";
// Upstream's MaxNodeScore / MaxExtenderPriority.
constexpr std::int64_t kPriorityUnit = 10;

class Verdicts : public SchedulerPlugin {
 public:
  Verdicts(std::set<std::string> asked, std::map<std::string, std::string> refused)
      : asked_(std::move(asked)), refused_(std::move(refused)) {}
  std::string name() const override { return kExtender; }
  bool filters() const override { return true; }
  std::optional<std::string> filter(const PodShape&, const NodeView& node) override {
    const auto why = refused_.find(node.shape.name);
    if (why != refused_.end()) return why->second;
    if (!asked_.contains(node.shape.name)) return "node(s) were not there when extenders were asked";
    return std::nullopt;
  }

 private:
  const std::set<std::string> asked_;
  const std::map<std::string, std::string> refused_;
};

class Priorities : public SchedulerPlugin {
 public:
  Priorities(std::int64_t weight, std::map<std::string, std::int64_t> of)
      : weight_(weight), of_(std::move(of)) {}
  std::string name() const override { return kExtender; }
  std::int64_t weight() const override { return weight_; }
  bool scores() const override { return true; }
  std::int64_t score(const PodShape&, const NodeView& node) override {
    const auto found = of_.find(node.shape.name);
    return found == of_.end() ? 0 : found->second * kPriorityUnit;
  }

 private:
  const std::int64_t weight_;
  const std::map<std::string, std::int64_t> of_;
};

Result<std::string> body_of(const SchedulerExtender& extender, const std::string& verb,
                            const Result<HttpResponse>& answer) {
  if (!answer) {
    if (answer.error().is(Error::deadline_exceeded))
      return Error(Error::deadline_exceeded, "scheduler", "no answer within its deadline");
    return answer.error();
  }
  if (answer->status != 200) {
    return Error(Error::unavailable, "scheduler",
                 "failed " + verb + " with extender at URL " + extender.url + "/" + verb + ", code " +
                     std::to_string(answer->status));
  }
  return answer->body;
}

}  // namespace

bool Scheduler::Impl::asks_extenders(const Object& pod) const {
  return std::any_of(extenders.begin(), extenders.end(), [&](const SchedulerExtender& each) {
    return (!each.filter_verb.empty() || !each.prioritize_verb.empty()) && sched::is_interested(each, pod);
  });
}

void Scheduler::Impl::stand_in_line(const PodShape& pod) {
  const auto [known, fresh] = in_line.try_emplace(pod.uid);
  if (!fresh) line.erase(known->second);
  known->second = {-pod.priority, ++line_number, pod.uid};
  line.insert(known->second);
}

void Scheduler::Impl::begin_inquiry(Outcome& outcome) {
  while (!inquiry && !line.empty() && !stopped && in_flight.size() < options.in_flight_max) {
    const std::string uid = std::get<std::string>(*line.begin());
    line.erase(line.begin());
    in_line.erase(uid);
    // Changed since: its new version comes by itself. Gone: nobody asks.
    if (!queue->in_hand(uid) || in_flight.contains(uid)) continue;
    const Object object = informers.informer(pods()).cache().by_uid(uid);
    const SchedulingProfile* profile = object ? profile_of(object) : nullptr;
    if (profile == nullptr) {
      queue->remove(uid);
      continue;
    }
    const PodShape pod = shape_of(object);
    const PlaceOptions how = how_to_place(*profile);
    const std::int64_t begun = now();
    auto made = std::make_shared<Inquiry>();
    if (snapshot.node_count() > 0) {
      sched::Attempt attempt(snapshot, pod, how);
      if (attempt.for_all.empty()) attempt.walk();
      if (!attempt.failure) {
        for (const sched::Slot slot : attempt.feasible.slots)
          made->left.push_back(attempt.impl.nodes[slot].shape.name);
      }
    }
    if (made->left.empty()) {
      settle(object, pod, how, begun, {pod.ns + "/" + pod.name, {}, {}}, outcome);
      continue;
    }
    made->pod = object;
    made->begun_ns = begun;
    made->asked.insert(made->left.begin(), made->left.end());
    for (const bool filters : {true, false}) {
      for (const SchedulerExtender& each : extenders) {
        const std::string& verb = filters ? each.filter_verb : each.prioritize_verb;
        if (!verb.empty() && sched::is_interested(each, object)) made->questions.push_back({&each, filters});
      }
    }
    inquiry = made;
    outcome.ask = std::move(made);
  }
}

void Scheduler::Impl::conclude_inquiry(const Inquiry& said, Outcome& outcome) {
  const std::string& uid = said.pod.uid();
  if (!queue->in_hand(uid) || in_flight.contains(uid)) return;
  const Object object = informers.informer(pods()).cache().by_uid(uid);
  const SchedulingProfile* profile = object ? profile_of(object) : nullptr;
  if (profile == nullptr) {
    queue->remove(uid);
    return;
  }
  const PodShape pod = shape_of(object);
  SchedulingDecision decision{pod.ns + "/" + pod.name, {}, {}};
  if (!said.failure.empty()) {
    ++stats.errors;
    if (measures) measures->attempt("error", profile->name, now() - said.begun_ns);
    queue->retry(uid, now());
    outcome.refused.push_back({object, "SchedulerError", said.failure, {}});
    if (!on_decision) return;
    decision.decision = {PlacementFailed{kExtender, said.failure}};
    outcome.decisions.push_back(std::move(decision));
    return;
  }
  // They live as long as a call into them may run.
  auto answers = std::make_shared<std::vector<std::unique_ptr<SchedulerPlugin>>>();
  answers->push_back(std::make_unique<Verdicts>(said.asked, said.refused));
  for (const Scores& each : said.scores)
    answers->push_back(std::make_unique<Priorities>(each.extender->weight, each.of));
  PlaceOptions how = how_to_decide(*profile);
  if (how.guard) {
    how.guard = [guard = how.guard, answers](std::function<void()> call) {
      return guard([call = std::move(call), answers] { call(); });
    };
  }
  for (const auto& each : *answers) how.plugins.push_back(each.get());
  settle(object, pod, how, said.begun_ns, std::move(decision), outcome);
}

HttpRequest Scheduler::Impl::request_to(const SchedulerExtender& extender, const std::string& verb,
                                        std::string body) const {
  HttpRequest request;
  request.method = "POST";
  request.url = extender.url + "/" + verb;
  request.headers = {{"Content-Type", "application/json"}};
  request.body = std::move(body);
  request.tls.verify = !extender.insecure;
  request.tls.server_name = extender.server_name;
  request.tls.ca_pem = extender.ca_pem;
  request.tls.certificate_pem = extender.certificate_pem;
  request.tls.key_pem = extender.key_pem;
  request.total_deadline = request.connect_deadline = request.header_deadline = request.stall_deadline =
      extender.timeout;
  return request;
}

void Scheduler::Impl::ask_next(const std::shared_ptr<Inquiry>& current) {
  {
    const bool over =
        current->next == current->questions.size() || current->left.empty() || !current->failure.empty();
    std::unique_lock lock(mutex);
    if (stopped) return;
    current->answered = over;
    lock.unlock();
    if (over) return pump();
  }
  const Question& question = current->questions[current->next];
  const SchedulerExtender& extender = *question.extender;
  const std::string& verb = question.filters ? extender.filter_verb : extender.prioritize_verb;
  const auto node_named = [this](const std::string& name) { return informers.get(nodes(), {}, name); };
  http->send(
          request_to(extender, verb, sched::extender_args(extender, current->pod, current->left, node_named)))
      .on_ready([weak = weak_from_this(), current](const Result<HttpResponse>& answer) {
        const auto self = weak.lock();
        if (!self) return;
        // Long answers are not read on an event thread.
        (void)self->engine.post_blocking([weak, current, answer] {
          if (const auto still = weak.lock()) still->heard(current, answer);
        });
      });
}

void Scheduler::Impl::heard(const std::shared_ptr<Inquiry>& current, const Result<HttpResponse>& answer) {
  const Question& question = current->questions[current->next];
  const SchedulerExtender& extender = *question.extender;
  const std::string& verb = question.filters ? extender.filter_verb : extender.prioritize_verb;
  // Its server may just have closed a connection that was kept; neither question changes anything.
  if (!answer && !answer.error().is(Error::deadline_exceeded) && !std::exchange(current->again, true))
    return ask_next(current);
  current->again = false;
  ++current->next;
  const Result<std::string> body = body_of(extender, verb, answer);
  std::optional<Error> problem;
  if (!body) {
    problem = body.error();
  } else if (question.filters) {
    auto verdict = sched::read_verdict(extender, *body, current->left);
    if (verdict) {
      current->left = std::move(verdict->left);
      current->refused.merge(verdict->refused);
    } else {
      problem = verdict.error();
    }
  } else {
    auto scores = sched::read_priorities(*body, current->left);
    if (scores) {
      current->scores.push_back({&extender, std::move(*scores)});
    } else {
      problem = scores.error();
    }
  }
  if (problem) {
    const std::string what = "extender " + extender.url + ": " + verb + ": " + problem->message();
    // Without priorities a pod can be placed all the same, as upstream does.
    if (question.filters && !extender.ignorable) {
      current->failure = what;
    } else if (engine.logs(LogLevel::info)) {
      engine.log(LogLevel::info, "scheduler", what + "; the pod goes on without it");
    }
  }
  ask_next(current);
}

const SchedulerExtender* Scheduler::Impl::binder_of(const Object& pod) const {
  for (const SchedulerExtender& each : extenders) {
    if (!each.bind_verb.empty() && sched::is_interested(each, pod)) return &each;
  }
  return nullptr;
}

void Scheduler::Impl::bind_by(const SchedulerExtender& extender, Placed placed) {
  auto kept = std::make_shared<Placed>(std::move(placed));
  http->send(request_to(extender, extender.bind_verb, sched::extender_binding(kept->pod, kept->node)))
      .on_ready([weak = weak_from_this(), kept, &extender](const Result<HttpResponse>& answer) {
        const auto self = weak.lock();
        if (!self) return;
        const Result<std::string> body = body_of(extender, extender.bind_verb, answer);
        const Result<void> done = body ? sched::read_binding(*body) : Result<void>(body.error());
        if (done) {
          self->bound(*kept, std::nullopt);
        } else if (extender.ignorable) {
          kept->passed_binder = true;
          std::vector<Placed> one;
          one.push_back(std::move(*kept));
          self->bind(std::move(one));
        } else if (done.error().is(Error::deadline_exceeded)) {
          // It may have bound the pod all the same.
          self->bound(*kept, Error(Error::unknown_outcome, "scheduler",
                                   "extender " + extender.url + ": " + done.error().message()));
        } else {
          (void)self->engine.post_blocking([weak, kept, &extender, why = done.error().message()] {
            const auto still = weak.lock();
            if (!still) return;
            still->give_up(*kept, "extender " + extender.url + ": " + extender.bind_verb + ": " + why);
            still->pump();
          });
        }
        self->pump();
      });
}

}  // namespace orchestra
