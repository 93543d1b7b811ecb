// Pulling: manifest, platform, content, layers, name; in this order, so that a name never points at less
// than a whole image.
//
// Mirrors come first, in order, then the registry itself. Digests make them interchangeable: whatever
// arrives is checked before it is visible. Three layers of an image come at once; the thread of the pull
// is one of the three, so that pulls cannot starve each other of workers. Each layer is unpacked while it
// arrives (layer_run). A transfer that breaks off goes on where it was (Range), also after a restart of the
// process: the part is hashed again first. A part whose digest is wrong in the end is dropped and fetched
// once more from its start.
#include "image/pull.hpp"

#include <fcntl.h>

#include <algorithm>

#include "image/layer_run.hpp"
#include "image/policy.hpp"
#include "image/registry/hosts.hpp"
#include "image/transfers.hpp"
#include "orchestra/env.hpp"

namespace orchestra::image {
namespace {

constexpr int kTransferAttempts = 5;

std::string header_of(const std::map<std::string, std::string>& headers, const char* name) {
  const auto found = headers.find(name);
  return found == headers.end() ? std::string() : found->second;
}

/// A document with the digest of its bytes.
struct Fetched {
  std::string bytes, content_type, digest;
};

class Pull {
 public:
  Pull(Store& store, const ImageReference& reference, const ImagePullOptions& options, RegistryTarget target)
      : store_(store),
        reference_(reference),
        options_(options),
        lease_(store.leases().begin()),
        limits_{5, store.options().registry_retry_delay},
        session_(store.engine(), store.options().http, std::move(target), limits_, &store.tokens()) {}

  Result<ImageInfo> run() {
    ORC_ASSIGN(wanted_, Platform::parse(options_.platform));
    const std::string name = reference_.digest().empty() ? reference_.tag() : reference_.digest();
    if (auto unchanged = known_already(name)) return store_.info(*unchanged);
    ORC_ASSIGN(Fetched top, fetch_manifest(name, reference_.digest()));
    NameRecord record;
    record.name = reference_.canonical();
    ORC_ASSIGN(Document document, parse_document(top.bytes, top.content_type));
    if (const auto* index = std::get_if<Index>(&document)) {
      ORC_ASSIGN(const Descriptor chosen, choose_any(*index));
      lease_.hold(top.digest);
      ORC_ASSIGN(record.index, store_.blobs().put(top.bytes));
      record.whole_index = options_.all_platforms;
      if (options_.all_platforms) ORC_TRY(fetch_index(*index, 1));
      ORC_TRY(check_digest(chosen.digest));
      ORC_ASSIGN(top, fetch_manifest(chosen.digest, chosen.digest));
      ORC_ASSIGN(document, parse_document(top.bytes, top.content_type));
    }
    const auto* manifest = std::get_if<Manifest>(&document);
    if (manifest == nullptr) return Error(Error::unsupported, "image", "an index inside of an index");
    ORC_TRY(fetch_content(*manifest));
    lease_.hold(top.digest);
    ORC_ASSIGN(record.manifest, store_.blobs().put(top.bytes));
    ORC_TRY(store_.set_name(record));
    say("pulled " + reference_.familiar() + " " + record.manifest);
    return store_.info(record);
  }

  std::optional<RegistryCredentials> login() { return session_.login(); }

 private:
  void say(const std::string& line) const {
    std::lock_guard lock(say_);
    if (options_.progress) options_.progress(line);
  }

  /// With all platforms there may be none for this machine: then the first stands for the image.
  Result<Descriptor> choose_any(const Index& index) {
    auto chosen = choose_platform(index, wanted_);
    if (chosen || !options_.all_platforms || index.manifests.empty()) return chosen;
    any_platform_ = true;
    return index.manifests.front();
  }

  /// Everything that an index names, down to the bounds of nesting.
  Result<void> fetch_index(const Index& index, int depth) {
    constexpr int kIndexDepthMax = 4;
    if (depth >= kIndexDepthMax) return Error(Error::corrupt, "image", "indexes nested deeper than 4");
    for (const Descriptor& child : index.manifests) {
      ORC_TRY(check_digest(child.digest));
      ORC_ASSIGN(const Fetched document_bytes, fetch_manifest(child.digest, child.digest));
      lease_.hold(child.digest);
      ORC_TRY(store_.blobs().put(document_bytes.bytes));
      ORC_ASSIGN(const Document document, parse_document(document_bytes.bytes, document_bytes.content_type));
      if (const auto* inner = std::get_if<Index>(&document)) {
        ORC_TRY(fetch_index(*inner, depth + 1));
        continue;
      }
      const auto& manifest = std::get<Manifest>(document);
      lease_.hold(manifest.config.digest);
      ORC_TRY(check_digest(manifest.config.digest));
      if (!store_.blobs().has(manifest.config.digest)) ORC_TRY(fetch_blob(manifest.config, nullptr));
      ORC_TRY(fetch_layers(manifest, nullptr));
    }
    return {};
  }

  /// One HEAD decides whether a tag still means what the store has.
  std::optional<NameRecord> known_already(const std::string& name) {
    const auto known = store_.find_name(reference_.canonical());
    if (!known) return std::nullopt;
    auto image = store_.load(known->manifest);
    if (!image) return std::nullopt;
    const bool same_platform =
        !(*image)->manifest.is_image() || platform_fits((*image)->config.platform, wanted_);
    const bool whole = std::all_of((*image)->manifest.layers.begin(), (*image)->manifest.layers.end(),
                                   [&](const Descriptor& layer) { return store_.blobs().has(layer.digest); });
    if (!same_platform || !whole || (options_.all_platforms && !known->whole_index)) return std::nullopt;
    RegistryRequest request;
    request.method = "HEAD";
    request.path = "/manifests/" + name;
    request.headers.emplace_back("Accept", kAcceptManifests);
    auto answer = session_.send(request);
    if (!answer) return std::nullopt;  // the GET that follows says why
    const std::string digest = header_of(answer->headers, "docker-content-digest");
    if (digest.empty() || digest != (known->index.empty() ? known->manifest : known->index))
      return std::nullopt;
    say(reference_.familiar() + " is up to date");
    return known;
  }

  Result<Fetched> fetch_manifest(const std::string& name, const std::string& digest) {
    if (!digest.empty() && store_.blobs().has(digest)) {
      lease_.hold(digest);
      ORC_ASSIGN(std::string bytes, store_.blobs().read(digest, kManifestBytesMax));
      return Fetched{std::move(bytes), "", digest};
    }
    RegistryRequest request;
    request.path = "/manifests/" + name;
    request.headers.emplace_back("Accept", kAcceptManifests);
    request.body_bytes_max = kManifestBytesMax;
    ORC_ASSIGN(HttpResponse answer, session_.send(request));
    Fetched out;
    Hasher hasher(digest.empty() ? "sha256" : digest_algorithm(digest));
    hasher.update(answer.body);
    out.digest = hasher.finish();
    out.content_type = header_of(answer.headers, "content-type");
    const std::string told = header_of(answer.headers, "docker-content-digest");
    const bool comparable = told.starts_with(std::string(digest_algorithm(out.digest)) + ":");
    const std::string& wanted = !digest.empty() ? digest : comparable ? told : out.digest;
    if (out.digest != wanted) {
      return Error(Error::corrupt, "image",
                   "registry " + session_.target().host + " sent a manifest with digest " + out.digest +
                       " for " + wanted);
    }
    out.bytes = std::move(answer.body);
    return out;
  }

  // --- content ---------------------------------------------------------------------------------------

  /// The configuration, then the layers, unpacked as they come where they are for this machine.
  Result<void> fetch_content(const Manifest& manifest) {
    if (manifest.config.size > kConfigBytesMax) {
      return Error(Error::too_large, "image",
                   "a configuration of " + std::to_string(manifest.config.size) + " bytes");
    }
    ORC_TRY(check_digest(manifest.config.digest));
    lease_.hold(manifest.config.digest);  // before it is looked for
    if (!store_.blobs().has(manifest.config.digest)) ORC_TRY(fetch_blob(manifest.config, nullptr));
    if (!manifest.is_image()) return fetch_layers(manifest, nullptr);
    ORC_ASSIGN(const std::string bytes, store_.blobs().read(manifest.config.digest, kConfigBytesMax));
    ORC_ASSIGN(const ImageConfig config, parse_config(bytes));
    ORC_TRY(check_layers(manifest, config));
    const Platform& have = config.platform;
    if (!platform_fits(have, wanted_) && !any_platform_) {
      return Error(Error::unsupported, "image",
                   "no image for " + wanted_.text() + "; it exists for: " + have.text());
    }
    if (!platform_fits(have, host_platform())) return fetch_layers(manifest, nullptr);
    LayerRun run(store_, manifest.layers, config.diff_ids, lease_);
    ORC_TRY(fetch_layers(manifest, &run));
    ORC_TRY(run.finish());
    return {};
  }

  Result<void> fetch_layers(const Manifest& manifest, LayerRun* run) {
    std::vector<Transfer> transfers;
    std::set<std::string> seen;
    for (const Descriptor& layer : manifest.layers) {
      ORC_TRY(check_digest(layer.digest));
      lease_.hold(layer.digest);  // before it is looked for
      if (!seen.insert(layer.digest).second) continue;
      if (!store_.blobs().has(layer.digest)) {
        transfers.push_back([this, layer, run] { return fetch_blob(layer, run); });
        continue;
      }
      store_.blobs().touch(layer.digest);
      if (run != nullptr) run->offer(layer.digest, stored_content(store_, layer.digest));
    }
    return run_transfers(store_.engine(), std::move(transfers));
  }

  /// One download per digest, whoever wants it: the second one finds the blob.
  Result<void> fetch_blob(const Descriptor& blob, LayerRun* run) {
    const auto one_at_a_time = store_.key_mutex("blob:" + blob.digest);
    const std::lock_guard flight(*one_at_a_time);
    if (store_.blobs().has(blob.digest)) {
      if (run != nullptr) run->offer(blob.digest, stored_content(store_, blob.digest));
      return {};
    }
    const auto slot = store_.host_slots().take(session_.target().host);
    ORC_ASSIGN(auto writer, store_.blobs().begin_part(blob.digest));
    const bool resumed = writer->bytes() > 0;
    if (writer->bytes() > blob.size) ORC_TRY(writer->restart());
    if (resumed) say("layer " + short_digest(blob) + " goes on at " + std::to_string(writer->bytes()));
    auto done = download(blob, *writer, run);
    if (!done && resumed && done.error().is(Error::corrupt)) {
      // What an earlier process left was damaged: once more, from the start.
      writer.reset();
      store_.blobs().remove_part(blob.digest);
      ORC_ASSIGN(writer, store_.blobs().begin_part(blob.digest));
      done = download(blob, *writer, run);
    }
    if (!done && done.error().is(Error::corrupt)) store_.blobs().remove_part(blob.digest);
    if (done) say("got " + short_digest(blob) + " " + std::to_string(blob.size) + " bytes");
    return done;
  }

  static std::string short_digest(const Descriptor& blob) { return blob.digest.substr(0, 19); }

  void offer_growing(const Descriptor& blob, const BlobStore::Writer& writer, LayerRun* run) {
    if (run == nullptr) return;
    run->offer(
        blob.digest,
        [this, digest = blob.digest, growing = writer.growing()]() -> Result<std::unique_ptr<ByteSource>> {
          auto part = open_file(store_.blobs().part_path(digest), O_RDONLY);
          // Renamed by now: the same bytes under the blob's own name.
          if (!part) return stored_content(store_, digest)();
          return make_growing_source(std::move(*part), growing);
        },
        true);
  }

  /// The parts of an answer's body into `writer`; what a Range answer may say is checked first.
  BodySink sink_into(const Descriptor& blob, BlobStore::Writer& writer) {
    BodySink sink;
    const std::uint64_t have = writer.bytes();
    sink.begin = [&writer, have](int status,
                                 const std::map<std::string, std::string>& headers) -> Result<void> {
      if (have == 0) return {};
      if (status != 206) return writer.restart();  // 200: from the start again
      const std::string wanted = "bytes " + std::to_string(have) + "-";
      if (header_of(headers, "content-range").starts_with(wanted)) return {};
      return Error(Error::io, "image", "the registry went on at another place than asked");
    };
    sink.write = [this, &writer, &blob](std::string_view bytes) -> Result<void> {
      if (writer.bytes() + bytes.size() > blob.size) {
        return Error(Error::corrupt, "image",
                     "registry " + session_.target().host + " sends more than the " +
                         std::to_string(blob.size) + " bytes of " + blob.digest);
      }
      return writer.write(bytes);
    };
    return sink;
  }

  Result<void> download(const Descriptor& blob, BlobStore::Writer& writer, LayerRun* run) {
    offer_growing(blob, writer, run);
    for (int attempt = 1; writer.bytes() < blob.size || blob.size == 0; ++attempt) {
      RegistryRequest request;
      request.path = "/blobs/" + blob.digest;
      const std::uint64_t have = writer.bytes();
      if (have > 0) request.headers.emplace_back("Range", "bytes=" + std::to_string(have) + "-");
      request.also_good = {416};
      request.sink = sink_into(blob, writer);
      auto answer = session_.send(request);
      if (answer && answer->status == 416) {
        // Nothing behind what is here, yet it is too short: not the content that was announced.
        ORC_TRY(writer.restart());
        if (attempt >= kTransferAttempts) break;
        continue;
      }
      if (answer && (writer.bytes() >= blob.size || blob.size == 0)) break;
      const bool broke_off = answer || answer.error().is(Error::unavailable) ||
                             answer.error().is(Error::io) || answer.error().is(Error::deadline_exceeded) ||
                             answer.error().is(Error::unknown_outcome);
      const bool progressed = writer.bytes() > have;
      if (!broke_off || attempt >= kTransferAttempts || (!progressed && attempt > 1)) {
        if (answer) break;  // too short: commit() names both sizes
        return answer.error();
      }
      say("layer " + short_digest(blob) + " goes on at " + std::to_string(writer.bytes()) + " bytes");
    }
    ORC_TRY(writer.commit(blob.size, blob.digest));
    return {};
  }

  Store& store_;
  const ImageReference& reference_;
  const ImagePullOptions& options_;
  Lease lease_;
  RegistryLimits limits_;
  RegistrySession session_;
  Platform wanted_;
  bool any_platform_ = false;
  mutable std::mutex say_;  ///< transfers report from several threads
};

}  // namespace

Result<ImageInfo> pull_image(Store& store, const ImageReference& reference, const ImagePullOptions& options,
                             std::optional<RegistryCredentials>* login) {
  if (!store.options().http) {
    return Error(
        Error::unsupported, "image",
        "image " + reference.canonical() + " is not in the store, which was opened without an HTTP client");
  }
  ORC_ASSIGN(const auto targets, registry_targets(store.options(), reference, options));
  // Ten pulls of one image are one download and nine looks at the result.
  const auto one_at_a_time = store.key_mutex("pull:" + reference.canonical());
  const std::lock_guard flight(*one_at_a_time);
  std::optional<Error> first;
  for (const RegistryTarget& target : targets) {
    if (!target.resolve && reference.digest().empty())
      continue;  // a mirror that may not say what a tag means
    Pull pull(store, reference, options, target);
    auto pulled = pull.run();
    if (pulled && login != nullptr) *login = pull.login();
    if (pulled) return pulled;
    if (pulled.error().is(Error::no_space)) collect_after_no_space(store);
    if (pulled.error().is(Error::no_space) || pulled.error().is(Error::unsupported)) {
      return pulled.error().with_context("pull " + reference.canonical());
    }
    if (&target != &targets.back()) {
      store.engine().log(LogLevel::warning, "image", "the next registry is tried",
                         {{"image", reference.canonical()}, {"error", pulled.error().to_string()}});
      continue;
    }
    first = pulled.error();
  }
  return first->with_context("pull " + reference.canonical());
}

}  // namespace orchestra::image
