// See conversion.hpp. Upstream apiextensions-apiserver/pkg/apiserver/conversion/webhook_converter.go: the
// answer must hold the same objects in the same order in the version that was asked for; of their metadata
// only labels and annotations may differ, the rest is put back; one failure fails all.
#include "apiserver/webhook/conversion.hpp"

#include "api/meta.hpp"
#include "api/status.hpp"
#include "apiserver/webhook/webhook.hpp"

namespace orchestra::apiserver {
namespace {
constexpr Duration kTimeout = std::chrono::seconds(30);
constexpr Duration kViewDeadline = std::chrono::seconds(10);

class WebhookConverter final : public api::ObjectConverter {
 public:
  WebhookConverter(std::weak_ptr<ApiCore> core, json::value config, std::string review_version)
      : core_(std::move(core)), config_(std::move(config)), review_version_(std::move(review_version)) {}

  Result<std::vector<json::value>> convert(std::vector<json::value> objects,
                                           const std::string& api_version) const override {
    const auto core = core_.lock();
    if (core == nullptr) return api::service_unavailable("the server is stopping");
    const std::string kind = string_at(objects.front(), "/kind");
    auto converted = ask(*core, objects, api_version);
    if (converted) return converted;
    if (converted.error().detail<Status>() != nullptr) return converted.error();
    return api::internal_error("conversion webhook for " + string_at(objects.front(), "/apiVersion") +
                               ", Kind=" + kind + " failed: " + converted.error().message());
  }

 private:
  static Error bad(const std::string& why) { return Error(Error::unavailable, "webhook", why); }

  Result<std::vector<json::value>> ask(ApiCore& core, const std::vector<json::value>& objects,
                                       const std::string& api_version) const {
    ORC_ASSIGN(Snapshot snapshot, core.store().snapshot(0, Consistency::serializable).wait(kViewDeadline));
    ORC_ASSIGN(const WebhookTarget target, webhook_target(config_, View(std::move(snapshot))));
    json::array sent;
    for (const json::value& object : objects) sent.push_back(object);
    const std::string uid = core.engine().random().uuid();
    const json::value review = json::object{
        {"kind", "ConversionReview"},
        {"apiVersion", "apiextensions.k8s.io/" + review_version_},
        {"request",
         json::object{{"uid", uid}, {"desiredAPIVersion", api_version}, {"objects", std::move(sent)}}}};
    ORC_ASSIGN(const json::value answer, core.webhook_caller().call(target, review, kTimeout));
    const json::value* response = find(answer, "/response");
    if (response == nullptr || !response->is_object()) return bad("no response provided");
    if (review_version_ == "v1" && string_at(*response, "/uid") != uid)
      return bad("expected response.uid=\"" + uid + "\", got \"" + string_at(*response, "/uid") + "\"");
    if (string_at(*response, "/result/status") != "Success") {
      const std::string why = string_at(*response, "/result/message");
      return bad(why.empty() ? "response.result.status was '" + string_at(*response, "/result/status") +
                                   "', not 'Success'"
                             : why);
    }
    const json::array* converted = array_at(*response, "/convertedObjects");
    if (converted == nullptr || converted->size() != objects.size())
      return bad("webhook returned " + std::to_string(converted == nullptr ? 0 : converted->size()) +
                 " objects, expected " + std::to_string(objects.size()));
    std::vector<json::value> out;
    for (std::size_t i = 0; i < objects.size(); ++i) {
      ORC_ASSIGN(json::value one, accepted(objects[i], (*converted)[i], api_version, i));
      out.push_back(std::move(one));
    }
    return out;
  }

  static Result<json::value> accepted(const json::value& sent, const json::value& got,
                                      const std::string& api_version, std::size_t index) {
    const std::string where = "invalid converted object at index " + std::to_string(index) + ": ";
    if (!got.is_object()) return bad(where + "it is no object");
    if (string_at(got, "/apiVersion") != api_version)
      return bad(where + "invalid groupVersion (expected " + api_version + ", received " +
                 string_at(got, "/apiVersion") + ")");
    if (string_at(got, "/kind") != string_at(sent, "/kind"))
      return bad(where + "invalid kind (expected " + string_at(sent, "/kind") + ", received " +
                 string_at(got, "/kind") + ")");
    for (const char* field : {"name", "namespace", "uid"}) {
      if (api::meta_string(got, field) != api::meta_string(sent, field))
        return bad(where + "metadata." + field + " was changed");
    }
    json::value out = got;
    json::object metadata = *object_at(sent, "/metadata");
    for (const char* field : {"labels", "annotations"}) {
      metadata.erase(field);
      if (const json::value* own = find(got, std::string("/metadata/") + field);
          own != nullptr && own->is_object())
        metadata[field] = *own;
    }
    out.get_object()["metadata"] = std::move(metadata);
    return out;
  }

  const std::weak_ptr<ApiCore> core_;
  const json::value config_;
  const std::string review_version_;
};
}  // namespace

std::shared_ptr<const api::ObjectConverter> converter_of(const std::shared_ptr<ApiCore>& core,
                                                         const json::value& definition) {
  if (string_at(definition, "/spec/conversion/strategy") != "Webhook") return nullptr;
  const json::value* config = find(definition, "/spec/conversion/webhook/clientConfig");
  const json::array* versions = array_at(definition, "/spec/conversion/webhook/conversionReviewVersions");
  if (config == nullptr || versions == nullptr) return nullptr;
  for (const json::value& version : *versions) {
    if (version == "v1" || version == "v1beta1")
      return std::make_shared<WebhookConverter>(core, *config, std::string(version.get_string()));
  }
  return nullptr;
}

}  // namespace orchestra::apiserver
