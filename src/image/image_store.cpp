// The public ImageStore: image::Store's blocking calls as Pending on worker threads.
#include "orchestra/image_store.hpp"

#include "image/collect.hpp"
#include "image/export.hpp"
#include "image/import.hpp"
#include "image/policy.hpp"
#include "image/pull.hpp"
#include "image/push.hpp"
#include "image/registry/hosts.hpp"
#include "image/service.hpp"
#include "image/store.hpp"
#include "image/verify.hpp"

namespace orchestra {

ImageStore::ImageStore(std::shared_ptr<image::Store> store) : store_(std::move(store)) {}
ImageStore::~ImageStore() = default;

Result<std::shared_ptr<ImageStore>> ImageStore::open(Engine& engine, ImageStoreOptions options) {
  ORC_ASSIGN(auto store, image::Store::open(engine, std::move(options)));
  image::import_preloads(*store);
  if (store->options().collect.automatic) store->keep(image::AutoCollect::start(store));
  return std::shared_ptr<ImageStore>(new ImageStore(std::move(store)));
}

Pending<ImportReport> ImageStore::import(std::string path, ImportOptions options) {
  return image::run_with_store(store_,
                               [path = std::move(path), options = std::move(options)](image::Store& store) {
                                 return image::import_archive(store, path, options);
                               });
}

Pending<ImageInfo> ImageStore::pull(std::string text, ImagePullOptions options) {
  auto reference = ImageReference::parse(text);
  if (!reference) return reference.error();
  return image::run_with_store(
      store_,
      [text = std::move(text), options = std::move(options)](image::Store& store) -> Result<ImageInfo> {
        // A short name may mean several images by registries.conf: the first that exists.
        ORC_ASSIGN(const auto conf, image::load_registries_conf(store.options()));
        std::optional<Error> last;
        for (const std::string& name : image::short_name_candidates(conf, text)) {
          ORC_ASSIGN(const ImageReference candidate, ImageReference::parse(name));
          auto pulled = image::pull_image(store, candidate, options);
          if (pulled || !pulled.error().is(Error::not_found)) return pulled;
          last = pulled.error();
        }
        return *last;
      });
}

Pending<std::string> ImageStore::push(std::string name, std::string destination, ImagePullOptions options) {
  auto reference = ImageReference::parse(destination.empty() ? name : destination);
  if (!reference) return reference.error();
  return image::run_with_store(
      store_, [name = std::move(name), reference = *reference, options = std::move(options)](
                  image::Store& store) { return image::push_image(store, name, reference, options); });
}

Pending<void> ImageStore::export_to(std::string path, std::vector<std::string> names, ImageFormat format) {
  return image::run_with_store(
      store_, [path = std::move(path), names = std::move(names), format](image::Store& store) {
        return image::export_archive(store, path, names, format);
      });
}

Pending<CollectReport> ImageStore::collect(CollectOptions options) {
  return image::run_with_store(
      store_, [options = std::move(options)](image::Store& store) { return image::collect(store, options); });
}

Pending<CollectReport> ImageStore::collect_by(CollectPolicy policy) {
  return image::run_with_store(
      store_, [policy](image::Store& store) { return image::collect_by_policy(store, policy); });
}
Pending<VerifyReport> ImageStore::verify() {
  return image::run_with_store(store_, [](image::Store& store) { return image::verify_store(store); });
}
Pending<ImageUsage> ImageStore::usage(std::string owner) {
  return image::run_with_store(
      store_, [owner = std::move(owner)](image::Store& store) { return image::root_usage(store, owner); });
}
Pending<std::string> ImageStore::diff_to(std::string owner, std::string path) {
  return image::run_with_store(store_,
                               [owner = std::move(owner), path = std::move(path)](image::Store& store) {
                                 return image::write_root_diff(store, owner, path);
                               });
}

Result<std::optional<ImageInfo>> ImageStore::lookup(const std::string& name) const {
  ORC_ASSIGN(const auto found, store_->find_image(name));
  if (!found) return std::optional<ImageInfo>();
  ORC_ASSIGN(ImageInfo info, store_->info(*found));
  return std::optional<ImageInfo>(std::move(info));
}

Result<std::vector<ImageInfo>> ImageStore::list() const { return store_->list(); }

namespace {
Result<image::NameRecord> need(const image::Store& store, const std::string& name) {
  ORC_ASSIGN(auto found, store.find_image(name));
  if (!found) return Error(Error::not_found, "image", "no image \"" + name + "\" in the store");
  return std::move(*found);
}
}  // namespace

Result<std::string> ImageStore::raw_manifest(const std::string& name) const {
  ORC_ASSIGN(const auto record, need(*store_, name));
  return store_->blobs().read(record.manifest, image::kManifestBytesMax);
}

Result<std::string> ImageStore::raw_config(const std::string& name) const {
  ORC_ASSIGN(const auto record, need(*store_, name));
  ORC_ASSIGN(const auto loaded, store_->load(record.manifest));
  return store_->blobs().read(loaded->manifest.config.digest, image::kConfigBytesMax);
}

Result<ImageInfo> ImageStore::tag(const std::string& from, const std::string& to) {
  ORC_ASSIGN(image::NameRecord record, need(*store_, from));
  ORC_ASSIGN(const ImageReference reference, ImageReference::parse(to));
  if (!reference.digest().empty()) {
    return Error(Error::invalid, "image", "\"" + to + "\" names a digest; a tag is needed");
  }
  record.name = reference.canonical();
  ORC_TRY(store_->set_name(record));
  return store_->info(record);
}

Result<void> ImageStore::remove(const std::string& name) { return store_->remove_name(name); }

Pending<MountPlan> ImageStore::prepare_root(std::string name, std::string owner, Isolation isolation) {
  return service()->prepare_root(std::move(name), std::move(owner), isolation);
}
Pending<void> ImageStore::release_root(std::string owner) {
  return service()->release_root(std::move(owner));
}

std::string ImageStore::overlay_problem() const { return store_->overlay_problem(); }

std::shared_ptr<ImageService> ImageStore::service() const { return image::make_image_service(store_); }

}  // namespace orchestra
