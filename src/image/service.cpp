// What the node agent asks of images, each call as one job on a worker thread.
//
// The pull policy is decided here: `never` looks only in the store; `if_not_present` pulls what is missing;
// `always` asks the registry each time, which downloads nothing that exists. With the option
// preload_satisfies_always a preloaded image is used when its registry cannot be reached, and this is logged.
#include "image/service.hpp"
#include "image/collect.hpp"

#include "image/pull.hpp"
#include "image/registry/credentials.hpp"
#include "image/user.hpp"

namespace orchestra::image {
namespace {

constexpr std::size_t kUserFileBytesMax = 4 << 20;

/// Found by its id: no registry can be asked for that.
bool is_by_id(const NameRecord& here, const Result<ImageReference>& reference) {
  return !reference || (reference->digest().empty() && here.name != reference->canonical());
}

Result<bool> may_use(Store& store, const NameRecord& here, const Result<ImageReference>& reference,
                     const ImagePullOptions& options) {
  if (!store.options().verify_pull_secrets || here.pinned) return true;
  if (is_by_id(here, reference)) return !store.pull_records().has(here.manifest);
  ORC_ASSIGN(const auto logins, find_credentials(store.options(), options, *reference));
  return store.pull_records().allows(here.manifest, *reference, logins);
}

Result<ImageInfo> ensure_image(Store& store, const PullRequest& request) {
  auto reference = ImageReference::parse(request.reference);
  // An image id is also accepted, for images that have no name.
  auto found = store.find_image(request.reference);
  if (!reference && !(found && *found)) return reference.error();
  const std::optional<NameRecord> here = found ? *found : std::nullopt;
  ImagePullOptions options;
  options.docker_configs = request.docker_configs;
  if (here && (request.policy != PullPolicy::always || !reference)) {
    ORC_ASSIGN(const bool allowed, may_use(store, *here, reference, options));
    if (allowed) return store.info(*here);
    if (request.policy == PullPolicy::never) {
      return Error(Error::not_found, "image",
                   "image \"" + request.reference +
                       "\" is present, but was pulled with a login that this pod does not have, and its pull "
                       "policy is Never; name a secret with the login in imagePullSecrets");
    }
  }
  if (request.policy == PullPolicy::never) {
    return Error(Error::not_found, "image",
                 "image \"" + request.reference + "\" is not present and its pull policy is Never");
  }
  if (!reference || (here && is_by_id(*here, reference))) {
    return Error(
        Error::not_found, "image",
        "image \"" + request.reference +
            "\" is present, but for pods with its login only; name it by its registry and repository");
  }
  std::optional<RegistryCredentials> login;
  const bool records = store.options().verify_pull_secrets;
  if (records) ORC_TRY(store.pull_records().begin(*reference));
  auto pulled = pull_image(store, *reference, options, &login);
  if (pulled && records) {
    const auto one_at_a_time = store.key_mutex("pulled:" + pulled->digest);
    const std::lock_guard flight(*one_at_a_time);
    ORC_TRY(store.pull_records().note(pulled->digest, *reference, login ? &*login : nullptr));
  }
  if (records) store.pull_records().end(*reference);
  if (pulled || !here || !here->pinned || !store.options().preload_satisfies_always) return pulled;
  store.engine().log(LogLevel::warning, "image", "the preloaded image is used: its registry did not answer",
                     {{"image", request.reference}, {"error", pulled.error().to_string()}});
  return store.info(*here);
}

Result<ImageService::User> resolve(const Store& store, const std::string& owner, const std::string& user) {
  ORC_ASSIGN(const SnapshotRecord record, store.find_snapshot(owner));
  ORC_ASSIGN(const LayerStack root, store.open_snapshot(record));
  ORC_ASSIGN(const auto passwd, root.read_file("etc/passwd", kUserFileBytesMax));
  ORC_ASSIGN(const auto group, root.read_file("etc/group", kUserFileBytesMax));
  ORC_ASSIGN(ImageUser found, find_user(user, passwd.value_or(""), group.value_or("")));
  ImageService::User out;
  out.uid = found.uid;
  out.gid = found.gid;
  out.groups = std::move(found.groups);
  out.home = std::move(found.home);
  return out;
}

class StoreService : public ImageService {
 public:
  explicit StoreService(std::shared_ptr<Store> store) : store_(std::move(store)) {}

  Pending<ImageInfo> ensure(PullRequest request) override {
    return run_with_store(
        store_, [request = std::move(request)](Store& store) { return ensure_image(store, request); });
  }
  Result<std::optional<ImageInfo>> lookup(const std::string& reference) override {
    ORC_ASSIGN(const auto found, store_->find_image(reference));
    if (!found) return std::optional<ImageInfo>();
    ORC_ASSIGN(ImageInfo info, store_->info(*found));
    return std::optional<ImageInfo>(std::move(info));
  }
  Result<std::vector<ImageInfo>> list() override { return store_->list(); }
  Pending<MountPlan> prepare_root(std::string image_id, std::string owner, Isolation isolation) override {
    return run_with_store(store_, [image = std::move(image_id), owner = std::move(owner), isolation](
                                      Store& store) { return store.prepare_root(image, owner, isolation); });
  }
  Pending<void> release_root(std::string owner) override {
    return run_with_store(store_,
                          [owner = std::move(owner)](Store& store) { return store.release_root(owner); });
  }
  Pending<std::uint64_t> free_unused(Duration minimum_age) override {
    return run_with_store(store_, [minimum_age](Store& store) -> Result<std::uint64_t> {
      ORC_ASSIGN(const CollectReport report, collect(store, {.bytes_max = 0, .minimum_age = minimum_age}));
      return report.bytes;
    });
  }
  Result<std::vector<std::string>> root_owners() override {
    ORC_ASSIGN(const auto snapshots, store_->snapshots());
    std::vector<std::string> out;
    for (const SnapshotRecord& record : snapshots) out.push_back(record.owner);
    return out;
  }
  Pending<User> resolve_user(std::string owner, std::string user) override {
    return run_with_store(store_, [owner = std::move(owner), user = std::move(user)](Store& store) {
      return resolve(store, owner, user);
    });
  }

 private:
  std::shared_ptr<Store> store_;
};

}  // namespace

std::shared_ptr<ImageService> make_image_service(std::shared_ptr<Store> store) {
  return std::make_shared<StoreService>(std::move(store));
}

}  // namespace orchestra::image
