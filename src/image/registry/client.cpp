// RegistryClient over RegistrySession; see orchestra/registry_client.hpp.
//
// Pages follow `Link: rel="next"` on the same host only. The fall-back tag is an index that two writers may
// race for: it is read again after each write and extended again if the own entry is gone.
#include "orchestra/registry_client.hpp"

#include <algorithm>

#include "base/http_client.hpp"
#include "base/json.hpp"
#include "image/digest.hpp"
#include "image/manifest.hpp"
#include "image/registry/hosts.hpp"
#include "image/registry/upload.hpp"

namespace orchestra {

using namespace image;

struct RegistryClient::Impl {
  Impl(Engine& owner, ImageStoreOptions given) : engine(owner), options(std::move(given)) {}
  Engine& engine;
  ImageStoreOptions options;
  TokenCache tokens;
};

namespace {

constexpr std::size_t kTagsMax = 100'000;
constexpr int kPagesMax = 10'000;
constexpr int kRacesMax = 5;
constexpr const char* kEmptyType = "application/vnd.oci.empty.v1+json";

std::string header_of(const HttpResponse& answer, const char* name) {
  const auto found = answer.headers.find(name);
  return found == answer.headers.end() ? std::string() : found->second;
}

/// One repository of one registry.
class Repository {
 public:
  Repository(Engine& engine, const ImageStoreOptions& options, RegistryTarget target, TokenCache& tokens)
      : session_(engine, options.http, std::move(target), {5, options.registry_retry_delay}, &tokens) {}

  Result<TagList> tags() {
    TagList out;
    std::string path = "/tags/list?n=1000";
    for (int page = 0; page < kPagesMax && !path.empty(); ++page) {
      RegistryRequest request;
      request.path = path;
      ORC_ASSIGN(const HttpResponse answer, session_.send(request));
      ORC_ASSIGN(const json::value root, parse_json(answer.body));
      const json::array* list = array_at(root, "/tags");
      for (const json::value& tag : list == nullptr ? json::array() : *list) {
        if (out.tags.size() >= kTagsMax) {
          out.truncated = true;
          return out;
        }
        if (tag.is_string()) out.tags.emplace_back(tag.as_string());
      }
      ORC_ASSIGN(path, next_page(answer));
    }
    return out;
  }

  Result<RegistryDocument> manifest(const std::string& name) {
    RegistryRequest request;
    request.path = "/manifests/" + name;
    request.headers.emplace_back("Accept", kAcceptManifests);
    request.body_bytes_max = kManifestBytesMax;
    ORC_ASSIGN(HttpResponse answer, session_.send(request));
    RegistryDocument out;
    const bool by_digest = is_digest(name);
    Hasher hasher(by_digest ? digest_algorithm(name) : "sha256");
    hasher.update(answer.body);
    out.digest = hasher.finish();
    if (by_digest && out.digest != name) {
      return Error(Error::corrupt, "image",
                   "registry " + session_.target().host + " sent " + out.digest + " for " + name);
    }
    out.media_type = header_of(answer, "content-type");
    out.bytes = std::move(answer.body);
    return out;
  }

  Result<std::string> blob(const std::string& digest, std::size_t bytes_max) {
    ORC_TRY(check_digest(digest));
    RegistryRequest request;
    request.path = "/blobs/" + digest;
    request.body_bytes_max = bytes_max;
    ORC_ASSIGN(HttpResponse answer, session_.send(request));
    Hasher hasher(digest_algorithm(digest));
    hasher.update(answer.body);
    if (const std::string actual = hasher.finish(); actual != digest) {
      return Error(Error::corrupt, "image",
                   "registry " + session_.target().host + " sent " + actual + " for " + digest);
    }
    return std::move(answer.body);
  }

  Result<Descriptor> put_part(const ArtifactPart& part) {
    Descriptor out;
    out.media_type = part.media_type;
    out.digest = sha256_digest(part.bytes);
    out.size = part.bytes.size();
    out.annotations = part.annotations;
    UploadContent content;
    content.digest = out.digest;
    content.size = out.size;
    content.open = [&part](std::uint64_t offset, std::uint64_t size) {
      auto done = std::make_shared<bool>(false);
      return Result<std::function<Result<std::string>()>>(
          [&part, offset, size, done]() -> Result<std::string> {
            if (*done) return std::string();
            *done = true;
            return part.bytes.substr(offset, size);
          });
    };
    ORC_TRY(upload_blob(session_, content, {}));
    return out;
  }

  /// Gives the digest. `subject_known`: the registry keeps the referrers list itself.
  Result<std::string> put_artifact(const Artifact& artifact, const std::optional<Descriptor>& subject,
                                   const std::string& tag, bool& subject_known, Descriptor& made) {
    if (artifact.artifact_type.empty())
      return Error(Error::invalid, "image", "an artifact needs its artifact_type");
    ArtifactPart empty{kEmptyType, "{}"};
    ORC_ASSIGN(const Descriptor config, put_part(artifact.config ? *artifact.config : empty));
    json::array layers;
    for (const ArtifactPart& part : artifact.parts) {
      ORC_ASSIGN(const Descriptor layer, put_part(part));
      layers.push_back(describe(layer));
    }
    if (layers.empty()) layers.push_back(describe(config));  // the spec asks for one layer at least
    json::object root{{"schemaVersion", 2}, {"mediaType", std::string(kOciManifest)}};
    root["artifactType"] = artifact.artifact_type;
    root["config"] = describe(config);
    root["layers"] = std::move(layers);
    if (subject) root["subject"] = describe(*subject);
    if (!artifact.annotations.empty()) {
      json::object notes;
      for (const auto& [name, value] : artifact.annotations) notes[name] = value;
      root["annotations"] = std::move(notes);
    }
    const std::string bytes = to_json(root);
    made.media_type = kOciManifest;
    made.artifact_type = artifact.artifact_type;
    made.digest = sha256_digest(bytes);
    made.size = bytes.size();
    made.annotations = artifact.annotations;
    ORC_ASSIGN(const HttpResponse answer,
               put_manifest(tag.empty() ? made.digest : tag, std::string(kOciManifest), bytes));
    subject_known = !header_of(answer, "oci-subject").empty();
    return made.digest;
  }

  /// ALG-HEX of the subject: an index of its referrers, for registries that keep none.
  static std::string fallback_tag(const std::string& digest) {
    return std::string(digest_algorithm(digest)).substr(0, 32) + "-" +
           std::string(digest_hex(digest)).substr(0, 64);
  }

  Result<void> extend_fallback(const std::string& subject, const Descriptor& made) {
    const std::string tag = fallback_tag(subject);
    for (int attempt = 0; attempt < kRacesMax; ++attempt) {
      ORC_ASSIGN(std::vector<Descriptor> list, read_fallback(tag));
      const bool there = std::any_of(list.begin(), list.end(),
                                     [&](const Descriptor& one) { return one.digest == made.digest; });
      if (there) return {};  // also what the read after the write should find
      list.push_back(made);
      ORC_TRY(put_manifest(tag, std::string(kOciIndex), make_index(list)));
    }
    return Error(Error::conflict, "image",
                 "the tag " + tag + " was overwritten by others " + std::to_string(kRacesMax) + " times");
  }

  Result<std::vector<Descriptor>> read_fallback(const std::string& tag) {
    auto document = manifest(tag);
    if (!document && document.error().is(Error::not_found)) return std::vector<Descriptor>();
    if (!document) return document.error();
    ORC_ASSIGN(Index index, parse_index(document->bytes, document->media_type));
    return std::move(index.manifests);
  }

  Result<std::vector<Referrer>> referrers(const std::string& digest, const std::string& type) {
    std::vector<Descriptor> found;
    std::string path = "/referrers/" + digest;
    if (!type.empty()) path += "?artifactType=" + encode(type);
    bool first = true;
    for (int page = 0; page < kPagesMax && !path.empty(); ++page) {
      RegistryRequest request;
      request.path = path;
      request.headers.emplace_back("Accept", std::string(kOciIndex));
      request.also_good = {404};
      ORC_ASSIGN(const HttpResponse answer, session_.send(request));
      if (answer.status == 404 && first) {
        ORC_ASSIGN(found, read_fallback(fallback_tag(digest)));
        break;
      }
      first = false;
      ORC_ASSIGN(Index index, parse_index(answer.body));
      found.insert(found.end(), index.manifests.begin(), index.manifests.end());
      if (found.size() > kTagsMax) break;
      ORC_ASSIGN(path, next_page(answer));
    }
    std::vector<Referrer> out;
    for (Descriptor& one : found) {
      // The server may not have filtered (OCI-Filters-Applied): the same here costs nothing.
      if (!type.empty() && one.artifact_type != type) continue;
      out.push_back({one.digest, one.media_type, one.artifact_type, one.size, std::move(one.annotations)});
    }
    return out;
  }

  Result<void> remove(const std::string& path) {
    RegistryRequest request;
    request.method = "DELETE";
    request.remove = true;
    request.path = path;
    request.also_good = {400, 405};
    ORC_ASSIGN(const HttpResponse answer, session_.send(request));
    if (answer.status != 400 && answer.status != 405) return {};
    return Error(Error::unsupported, "image",
                 "registry " + session_.target().host + " answered " + std::to_string(answer.status) +
                     " to DELETE " + path + ": deleting is not enabled there");
  }

  Result<HttpResponse> put_manifest(const std::string& name, const std::string& type,
                                    const std::string& bytes) {
    RegistryRequest put;
    put.method = "PUT";
    put.push = true;
    put.path = "/manifests/" + name;
    put.headers.emplace_back("Content-Type", type);
    put.body = bytes;
    return session_.send(put);
  }

 private:
  static json::object describe(const Descriptor& one) {
    json::object out{{"mediaType", one.media_type}, {"digest", one.digest}, {"size", one.size}};
    if (one.annotations.empty()) return out;
    json::object notes;
    for (const auto& [name, value] : one.annotations) notes[name] = value;
    out["annotations"] = std::move(notes);
    return out;
  }
  static std::string encode(const std::string& text) {
    std::string out;
    for (const char c : text) out += c == '+' ? "%2B" : c == '/' ? "%2F" : std::string(1, c);
    return out;
  }
  /// The next page's path, on this host only; empty: none.
  Result<std::string> next_page(const HttpResponse& answer) const {
    const std::string link = next_link(header_of(answer, "link"));
    if (link.empty()) return link;
    const std::string url = session_.absolute_url(link, answer.url);
    const auto origin = [](const std::string& text) {
      return text.substr(0, text.find('/', text.find("://") + 3));
    };
    if (origin(url) == origin(answer.url)) return url;
    return Error(Error::denied, "image",
                 "registry " + session_.target().host + " sends its next page to another host");
  }

  RegistrySession session_;
};

/// Runs `work(Repository&, const ImageReference&)` on a worker; the registry itself, never a mirror.
template <class T, class F>
Pending<T> with_repository(const std::shared_ptr<void>& keep, Engine& engine,
                           const ImageStoreOptions& options, TokenCache& tokens, std::string name,
                           ImagePullOptions pull, F work) {
  auto reference = ImageReference::parse(name);
  if (!reference) return reference.error();
  if (!options.http) return Error(Error::unsupported, "image", name + ": there is no HTTP client");
  return engine.run_blocking([keep, &engine, &options, &tokens, reference = *reference,
                              pull = std::move(pull), work = std::move(work)]() -> Result<T> {
    auto targets = registry_targets(options, reference, pull);
    if (!targets) return targets.error();
    Repository repository(engine, options, targets->back(), tokens);
    return work(repository, reference);
  });
}

std::string name_in(const ImageReference& reference) {
  return reference.digest().empty() ? reference.tag() : reference.digest();
}

}  // namespace

RegistryClient::RegistryClient(Engine& engine, ImageStoreOptions options)
    : impl_(std::make_shared<Impl>(engine, std::move(options))) {}
RegistryClient::~RegistryClient() = default;

Pending<TagList> RegistryClient::tags(std::string repository, ImagePullOptions options) {
  return with_repository<TagList>(impl_, impl_->engine, impl_->options, impl_->tokens, std::move(repository),
                                  std::move(options),
                                  [](Repository& at, const ImageReference&) { return at.tags(); });
}

Pending<RegistryDocument> RegistryClient::manifest(std::string reference, ImagePullOptions options) {
  return with_repository<RegistryDocument>(
      impl_, impl_->engine, impl_->options, impl_->tokens, std::move(reference), std::move(options),
      [](Repository& at, const ImageReference& name) { return at.manifest(name_in(name)); });
}

Pending<std::string> RegistryClient::blob(std::string repository, std::string digest, std::size_t bytes_max,
                                          ImagePullOptions options) {
  return with_repository<std::string>(
      impl_, impl_->engine, impl_->options, impl_->tokens, std::move(repository), std::move(options),
      [digest = std::move(digest), bytes_max](Repository& at, const ImageReference&) {
        return at.blob(digest, bytes_max);
      });
}

Pending<std::string> RegistryClient::push_artifact(std::string reference, Artifact artifact,
                                                   ImagePullOptions options) {
  return with_repository<std::string>(
      impl_, impl_->engine, impl_->options, impl_->tokens, std::move(reference), std::move(options),
      [artifact = std::move(artifact)](Repository& at, const ImageReference& name) -> Result<std::string> {
        bool ignored = false;
        Descriptor made;
        ORC_ASSIGN(
            const std::string digest,
            at.put_artifact(artifact, std::nullopt, name.digest().empty() ? name.tag() : "", ignored, made));
        return name.pinned(digest);
      });
}

Pending<std::string> RegistryClient::attach(std::string subject, Artifact artifact,
                                            ImagePullOptions options) {
  return with_repository<std::string>(
      impl_, impl_->engine, impl_->options, impl_->tokens, std::move(subject), std::move(options),
      [artifact = std::move(artifact)](Repository& at, const ImageReference& name) -> Result<std::string> {
        ORC_ASSIGN(const RegistryDocument about, at.manifest(name_in(name)));
        Descriptor subject;
        subject.media_type = about.media_type;
        subject.digest = about.digest;
        subject.size = about.bytes.size();
        bool known = false;
        Descriptor made;
        ORC_ASSIGN(const std::string digest, at.put_artifact(artifact, subject, "", known, made));
        if (!known) ORC_TRY(at.extend_fallback(subject.digest, made));
        return name.pinned(digest);
      });
}

Pending<std::vector<Referrer>> RegistryClient::referrers(std::string reference, std::string artifact_type,
                                                         ImagePullOptions options) {
  return with_repository<std::vector<Referrer>>(
      impl_, impl_->engine, impl_->options, impl_->tokens, std::move(reference), std::move(options),
      [type = std::move(artifact_type)](Repository& at,
                                        const ImageReference& name) -> Result<std::vector<Referrer>> {
        std::string digest = name.digest();
        if (digest.empty()) {
          ORC_ASSIGN(const RegistryDocument document, at.manifest(name.tag()));
          digest = document.digest;
        }
        return at.referrers(digest, type);
      });
}

Pending<void> RegistryClient::remove(std::string reference, ImagePullOptions options) {
  return with_repository<void>(
      impl_, impl_->engine, impl_->options, impl_->tokens, std::move(reference), std::move(options),
      [](Repository& at, const ImageReference& name) { return at.remove("/manifests/" + name_in(name)); });
}

Pending<void> RegistryClient::remove_blob(std::string repository, std::string digest,
                                          ImagePullOptions options) {
  return with_repository<void>(impl_, impl_->engine, impl_->options, impl_->tokens, std::move(repository),
                               std::move(options),
                               [digest = std::move(digest)](Repository& at, const ImageReference&) {
                                 return at.remove("/blobs/" + digest);
                               });
}

}  // namespace orchestra
