// ImageBuilder: platforms one after another, one name for all of them, then the outputs.
#include "orchestra/image_builder.hpp"

#include "image/build/output.hpp"
#include "image/build/platform_build.hpp"
#include "image/store.hpp"

namespace orchestra::image {
namespace {

class Build {
 public:
  Build(Store& store, std::shared_ptr<StepRunner> runner, const BuildOptions& options)
      : store_(store),
        runner_(std::move(runner)),
        options_(options),
        lease_(store_.leases().begin()),
        cache_(store_.directory() + "/build-cache.json") {}

  Result<BuildResult> run() {
    cache_.load();
    for (const std::string& folder : options_.cache_from) ORC_TRY(cache_.add_source(folder));
    ORC_TRY(build_platforms());
    ORC_TRY(cache_.save(options_.cache_bytes_max));
    if (!options_.cache_to.empty()) ORC_TRY(cache_.export_to(options_.cache_to, store_.blobs()));
    if (auto saved = store_.file_hashes().save(); !saved) result_.warnings.push_back(saved.error().message());
    ORC_TRY(name_result());
    for (const BuildOutput& output : options_.outputs)
      ORC_TRY(write_output(store_, output, result_.reference, built_.front(), lease_));
    return std::move(result_);
  }

 private:
  Result<void> build_platforms() {
    std::vector<std::string> wanted = options_.platforms;
    if (wanted.empty()) wanted.emplace_back();
    for (const std::string& text : wanted) {
      ORC_ASSIGN(Platform platform, Platform::parse(text));
      PlatformBuild build(store_, runner_, options_, std::move(platform), cache_, lease_);
      auto built = build.run();
      // What went well before an error is still worth remembering.
      if (!built) (void)cache_.save(options_.cache_bytes_max);
      if (!built) return built.error();
      result_.steps += build.steps();
      result_.cached += build.cached();
      if (built_.empty()) result_.warnings = build.warnings();
      built_.push_back(std::move(*built));
    }
    return {};
  }

  Result<void> name_result() {
    NameRecord record;
    record.manifest = built_.front().manifest.digest;
    for (const BuiltPlatform& one : built_) {
      if (platform_fits(one.platform, host_platform())) record.manifest = one.manifest.digest;
    }
    if (built_.size() > 1) {
      std::vector<Descriptor> children;
      for (const BuiltPlatform& one : built_) {
        children.push_back(one.manifest);
        children.back().platform = one.platform;
      }
      ORC_ASSIGN(record.index, store_.blobs().put(make_index(children, options_.annotations)));
      lease_.hold(record.index);
      record.whole_index = true;
    }
    if (!options_.tag.empty()) {
      ORC_ASSIGN(const ImageReference reference, ImageReference::parse(options_.tag));
      if (!reference.digest().empty())
        return Error(Error::invalid, "image", "a tag with a digest: " + options_.tag);
      record.name = reference.canonical();
    }
    ORC_TRY(store_.set_name(record));
    ORC_ASSIGN(result_.image, store_.info(record));
    result_.reference = record.name.empty() ? record.manifest : record.name;
    return {};
  }

  Store& store_;
  std::shared_ptr<StepRunner> runner_;
  const BuildOptions& options_;
  Lease lease_;
  BuildCache cache_;
  std::vector<BuiltPlatform> built_;
  BuildResult result_;
};

}  // namespace
}  // namespace orchestra::image

namespace orchestra {

ImageBuilder::ImageBuilder(std::shared_ptr<ImageStore> store, std::shared_ptr<StepRunner> runner)
    : store_(std::move(store)), runner_(std::move(runner)) {}
ImageBuilder::~ImageBuilder() = default;

Pending<BuildResult> ImageBuilder::build(BuildOptions options) {
  // The name is checked before any work is done.
  if (!options.tag.empty()) {
    if (auto reference = ImageReference::parse(options.tag); !reference) return reference.error();
  }
  return image::run_with_store(store_->internal(),
                               [runner = runner_, options = std::move(options)](image::Store& store) {
                                 return image::Build(store, runner, options).run();
                               });
}

}  // namespace orchestra
