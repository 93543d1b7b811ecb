// Outputs of builds, see output.hpp.
#include "image/build/output.hpp"

#include <fcntl.h>

#include "image/export.hpp"
#include "image/file_copy.hpp"
#include "image/push.hpp"

namespace orchestra::image {
namespace {

/// The image's tree in a folder.
Result<void> write_tree(Store& store, const BuiltPlatform& built, const std::string& folder, Lease& lease) {
  ORC_ASSIGN(const auto layers, store.ensure_layers(built.layers, built.diff_ids, lease));
  std::vector<std::uint64_t> numbers;
  for (const LayerRecord& layer : layers) numbers.push_back(layer.number);
  ORC_ASSIGN(const LayerStack stack, store.open_layers(numbers));
  ORC_TRY(make_directories(folder, 0755));
  ORC_ASSIGN(const Fd root, open_file(folder, O_RDONLY | O_DIRECTORY));
  ORC_ASSIGN(const auto names, list_directory(root.get()));
  if (!names.empty()) {
    return Error(Error::already_exists, "image",
                 folder + " is not empty; a root file system is written into an empty folder");
  }
  ORC_TRY(copy_stack(stack, root.get()));
  return {};
}

/// The same as one tar file.
Result<void> write_tar(Store& store, const BuiltPlatform& built, const std::string& path, Lease& lease) {
  const std::string folder = store.blobs().temporary_path();
  auto tree = write_tree(store, built, folder, lease);
  const LayerStack nothing;
  const auto write = [&]() -> Result<void> {
    ORC_TRY(tree);
    ORC_ASSIGN(const Fd root, open_file(folder, O_RDONLY | O_DIRECTORY));
    ORC_ASSIGN(const Fd file, open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0644));
    ORC_ASSIGN(const auto layer, LayerWriter::begin(store.blobs(), nothing));
    ORC_TRY(write_difference(root.get(), nothing, *layer));
    ORC_ASSIGN(const BuiltLayer whole, layer->finish());
    lease.hold(whole.blob.digest);
    ORC_ASSIGN(const Fd from, store.blobs().open_blob(whole.blob.digest));
    return copy_bytes(from.get(), file.get(), whole.blob.size);
  };
  auto done = write();
  (void)remove_tree(folder);
  return done;
}

}  // namespace

Result<BuildOutput> parse_output(std::string_view text) {
  BuildOutput out;
  if (text.find('=') == std::string_view::npos) return BuildOutput{"local", std::string(text)};
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t comma = std::min(text.find(',', start), text.size());
    const std::string part(text.substr(start, comma - start));
    start = comma + 1;
    const std::size_t equals = part.find('=');
    const std::string key = part.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : part.substr(equals + 1);
    if (key == "type") {
      out.type = value;
    } else if (key == "dest" || key == "name") {
      out.destination = value;
    } else if (!(key == "push" && value == "true")) {
      return Error(Error::invalid, "image", "output: \"" + part + "\" is not type=, dest= or name=");
    }
  }
  if (out.type == "image") out.type = "registry";
  return out;
}

Result<void> write_output(Store& store, const BuildOutput& output, const std::string& reference,
                          const BuiltPlatform& built, Lease& lease) {
  if (output.type == "registry") {
    ORC_ASSIGN(const ImageReference to,
               ImageReference::parse(output.destination.empty() ? reference : output.destination));
    ORC_TRY(push_image(store, reference, to, {}));
    return {};
  }
  if (output.destination.empty())
    return Error(Error::invalid, "image", "output type=" + output.type + " needs dest=");
  if (output.type == "oci") return export_archive(store, output.destination, {reference}, ImageFormat::oci);
  if (output.type == "docker")
    return export_archive(store, output.destination, {reference}, ImageFormat::docker);
  if (output.type == "local") return write_tree(store, built, output.destination, lease);
  if (output.type == "tar") return write_tar(store, built, output.destination, lease);
  return Error(Error::invalid, "image",
               "output type \"" + output.type + "\" is not oci, docker, local, tar or registry");
}

}  // namespace orchestra::image
