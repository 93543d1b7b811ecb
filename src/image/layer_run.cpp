// The jobs of a LayerRun: waiting, begun, done; moved on under one mutex, unpacked outside of it.
#include "image/layer_run.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <optional>

#include "base/assert.hpp"
#include "base/json.hpp"

namespace orchestra::image {
namespace {

constexpr int kHelpersMax = 3;  // per image; more only fight for the disk

}  // namespace

/// One layer on its way.
struct LayerRun::Job {
  enum class State : std::uint8_t { waiting, offered, begun, done };
  Descriptor blob;
  std::string diff_id, chain;
  State state = State::waiting;
  bool claimed = false;               ///< nobody else unpacks this chain while we do
  OpenContent open;                   ///< while offered
  bool arriving = false;              ///< read while it was downloaded, so before it was verified
  std::optional<LayerRecord> record;  ///< there already, or made visible
  // Unpacked, not yet visible:
  std::uint64_t number = 0;
  std::string folder;
  Fd target;
  std::unique_ptr<LayerApply> apply;
  ApplyReport report;
  std::optional<Error> failure;
};

struct LayerRun::Shared {
  explicit Shared(Store& owner) : store(owner) {}
  Store& store;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::unique_ptr<Job>> jobs;  ///< fixed after construction
  int helpers = 0;
  bool closed = false;  ///< late helpers find nothing
};

LayerRun::OpenContent stored_content(Store& store, const std::string& digest) {
  return [&store, digest]() -> Result<std::unique_ptr<ByteSource>> {
    ORC_ASSIGN(Fd file, store.blobs().open_blob(digest));
    return make_file_source(std::move(file));
  };
}

LayerRun::LayerRun(Store& store, const std::vector<Descriptor>& blobs,
                   const std::vector<std::string>& diff_ids, Lease& lease)
    : store_(store), shared_(std::make_shared<Shared>(store)) {
  ORC_ASSERT(blobs.size() == diff_ids.size());
  std::string chain;
  for (std::size_t i = 0; i < blobs.size(); ++i) {
    auto job = std::make_unique<Job>();
    job->blob = blobs[i];
    job->diff_id = diff_ids[i];
    chain = chain_id(chain, diff_ids[i]);
    job->chain = chain;
    lease.hold(layer_key(chain));
    lease.hold(blobs[i].digest);
    job->record = store.find_layer(chain);
    if (job->record) job->state = Job::State::done;
    shared_->jobs.push_back(std::move(job));
  }
}

LayerRun::~LayerRun() {
  std::unique_lock lock(shared_->mutex);
  shared_->closed = true;
  shared_->changed.wait(lock, [&] {
    for (const auto& job : shared_->jobs) {
      if (job->state == Job::State::begun) return false;
    }
    return true;
  });
  lock.unlock();
  for (const auto& job : shared_->jobs) {
    job->apply.reset();
    job->target.reset();
    if (!job->folder.empty()) (void)remove_tree(job->folder);
    if (job->claimed) store_.release_chain(job->chain);
  }
}

void LayerRun::offer(const std::string& digest, const OpenContent& open, bool arriving) {
  int wanted = 0;
  {
    std::lock_guard lock(shared_->mutex);
    for (const auto& job : shared_->jobs) {
      if (job->blob.digest != digest || job->state != Job::State::waiting) continue;
      job->open = open;
      job->arriving = arriving;
      job->state = Job::State::offered;
      if (shared_->helpers + wanted < kHelpersMax) ++wanted;
    }
    shared_->helpers += wanted;
  }
  for (int i = 0; i < wanted; ++i) {
    auto posted = store_.engine().post_blocking([shared = shared_] { work(shared); });
    if (posted) continue;
    std::lock_guard lock(shared_->mutex);
    --shared_->helpers;  // finish() does it then
  }
}

/// A helper: takes what is offered until there is nothing. The store is touched only while a job is begun,
/// which the destructor waits for.
void LayerRun::work(const std::shared_ptr<Shared>& shared) {
  std::unique_lock lock(shared->mutex);
  while (!shared->closed) {
    Job* next = nullptr;
    for (const auto& job : shared->jobs) {
      if (job->state == Job::State::offered) {
        next = job.get();
        break;
      }
    }
    if (next == nullptr) break;
    next->state = Job::State::begun;
    lock.unlock();
    unpack(shared->store, *next);
    lock.lock();
    next->state = Job::State::done;
    shared->changed.notify_all();
  }
  --shared->helpers;
}

/// Fills a temporary folder from the layer's bytes and checks what they unpack to.
void LayerRun::unpack(Store& store, Job& job) {
  if (!job.claimed) job.claimed = store.claim_chain(job.chain);
  if (!job.claimed) return;  // another run has it
  job.record = store.find_layer(job.chain);
  if (job.record) return;
  const auto run = [&]() -> Result<void> {
    ORC_TRY(store.blobs().at_step("layer unpack"));
    ORC_ASSIGN(auto raw, job.open());
    job.number = store.next_layer_number();
    job.folder = store.directory() + "/layers/tmp-" + std::to_string(job.number);
    ORC_TRY(make_directories(job.folder + "/fs", 0700));
    ORC_ASSIGN(job.target, open_file(job.folder + "/fs", O_RDONLY | O_DIRECTORY));
    ORC_ASSIGN(auto plain, decompress(std::move(raw)));
    HashingSource source(std::move(plain), store.options().layer_bytes_max, digest_algorithm(job.diff_id));
    job.apply = std::make_unique<LayerApply>(job.target.get(), store.apply_options());
    ORC_TRY(job.apply->unpack(source));
    ORC_TRY(drain(source));
    if (const std::string actual = source.digest(); actual != job.diff_id) {
      return Error(Error::corrupt, "image",
                   "unpacks to " + actual + ", the configuration says " + job.diff_id);
    }
    return {};
  };
  if (auto done = run(); !done) job.failure = done.error().with_context("layer " + job.blob.digest);
}

/// Somebody else unpacks this chain: wait, and take it over if that went wrong. What this run has below is
/// given first: whoever waits then holds only claims above the one it waits for, so no circle can close.
Result<void> LayerRun::wait_elsewhere(std::size_t index) {
  ORC_TRY(make_visible(index));
  Job& job = *shared_->jobs[index];
  store_.wait_chain(job.chain);
  job.claimed = true;
  job.record = store_.find_layer(job.chain);
  return {};
}

Result<void> LayerRun::unpack_again(Job& job, const LayerStack& below) {
  job.apply.reset();
  job.target.reset();
  ORC_TRY(remove_tree(job.folder));
  ORC_TRY(make_directories(job.folder + "/fs", 0700));
  ORC_ASSIGN(job.target, open_file(job.folder + "/fs", O_RDONLY | O_DIRECTORY));
  ORC_ASSIGN(Fd file, store_.blobs().open_blob(job.blob.digest));
  ORC_ASSIGN(const auto plain, decompress(make_file_source(std::move(file))));
  ORC_ASSIGN(job.report, apply_layer(*plain, job.target.get(), below, store_.apply_options()));
  return {};
}

Result<void> LayerRun::complete(Job& job, const LayerStack& below) {
  ORC_TRY(store_.blobs().at_step("layer finish"));
  ORC_ASSIGN(const bool done, job.apply->finish(below));
  if (done) {
    job.report = job.apply->report();
  } else {
    ORC_TRY(unpack_again(job, below));
  }
  for (const std::string& what : job.report.skipped) {
    if (store_.options().strict_devices && what.starts_with("device "))
      return Error(Error::denied, "image", what);
    store_.engine().log(LogLevel::warning, "image", "layer: " + what);
  }
  job.apply.reset();
  json::object meta;
  meta["chainID"] = job.chain;
  meta["diffID"] = job.diff_id;
  meta["bytes"] = job.report.bytes;
  meta["entries"] = job.report.entries;
  return write_file(job.folder + "/meta.json", to_json(meta), 0600);
}

/// The first `count` layers, all complete.
Result<void> LayerRun::make_visible(std::size_t count) {
  int synced = -1;
  for (std::size_t i = 0; i < count; ++i) {
    if (!shared_->jobs[i]->record) synced = shared_->jobs[i]->target.get();
  }
  if (synced >= 0) {
    ORC_TRY(store_.blobs().at_step("layer sync"));
    if (::syncfs(synced) != 0) return system_error("image", "syncfs", store_.directory(), errno);
  }
  for (std::size_t i = 0; i < count; ++i) {
    Job& job = *shared_->jobs[i];
    if (!job.record) {
      ORC_TRY(store_.blobs().at_step("layer rename"));
      ORC_ASSIGN(job.record, store_.adopt_layer(job.folder, {job.chain, job.number, job.report.bytes}));
      job.folder.clear();
    }
    if (job.claimed) store_.release_chain(job.chain);
    job.claimed = false;
  }
  return {};
}

/// Bottom first: where the layers below `count` lie now.
std::vector<std::string> LayerRun::folders_below(std::size_t count) const {
  std::vector<std::string> out;
  for (std::size_t i = 0; i < count; ++i) {
    const Job& job = *shared_->jobs[i];
    out.push_back(job.record ? store_.layer_path(job.record->number) : job.folder + "/fs");
  }
  return out;
}

Result<std::vector<LayerRecord>> LayerRun::finish() {
  for (std::size_t i = 0; i < shared_->jobs.size(); ++i) {
    Job& job = *shared_->jobs[i];
    {
      std::unique_lock lock(shared_->mutex);
      if (job.state == Job::State::waiting || job.state == Job::State::offered) {
        job.open = stored_content(store_, job.blob.digest);
        job.state = Job::State::begun;
        lock.unlock();
        unpack(store_, job);
        lock.lock();
        job.state = Job::State::done;
      }
      shared_->changed.wait(lock, [&] { return job.state == Job::State::done; });
    }
    if (!job.record && !job.claimed) ORC_TRY(wait_elsewhere(i));
    if (!job.record && (job.failure ? job.arriving : !job.apply)) {
      // The other run failed, or what arrived turned out to be damaged: from the stored, verified blob.
      job.failure.reset();
      job.arriving = false;
      job.apply.reset();
      if (!job.folder.empty()) ORC_TRY(remove_tree(job.folder));
      job.open = stored_content(store_, job.blob.digest);
      unpack(store_, job);
    }
    if (job.failure) return *job.failure;
    if (!job.record) {
      std::vector<std::string> top_first = folders_below(i);
      std::reverse(top_first.begin(), top_first.end());
      ORC_ASSIGN(const LayerStack lower, LayerStack::open(top_first));
      if (auto done = complete(job, lower); !done)
        return done.error().with_context("layer " + job.blob.digest);
    }
  }
  ORC_TRY(make_visible(shared_->jobs.size()));
  std::vector<LayerRecord> out;
  for (auto job = shared_->jobs.rbegin(); job != shared_->jobs.rend(); ++job) out.push_back(*(*job)->record);
  return out;
}

}  // namespace orchestra::image
