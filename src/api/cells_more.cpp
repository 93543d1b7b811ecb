// Rows of admission, registration, flow control, certificate and driver kinds.
#include "api/cells.hpp"
#include "api/meta.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

const json::object& spec_of(const json::object& object) { return object_or_empty(object, "spec"); }

/// "Approved,Issued", "Pending": the condition types that are true, as kubectl prints them.
std::string csr_condition(const json::object& object) {
  std::vector<std::string> words;
  bool approved = false, denied = false, failed = false;
  const json::object& status = object_or_empty(object, "status");
  for_each_object(status, "conditions", [&](std::size_t, const json::object& condition) {
    const std::string_view type = text_of(condition, "type");
    approved = approved || type == "Approved";
    denied = denied || type == "Denied";
    failed = failed || type == "Failed";
  });
  if (denied) {
    words.emplace_back("Denied");
  } else {
    words.emplace_back(approved ? "Approved" : "Pending");
  }
  if (failed) words.emplace_back("Failed");
  if (!text_of(status, "certificate").empty()) words.emplace_back("Issued");
  return join(words, ",");
}

}  // namespace

void webhook_cells(const json::object& object, Now now, json::array& cells) {
  cells.emplace_back(static_cast<std::int64_t>(array_or_empty(object, "webhooks").size()));
  cells.emplace_back(age_of(object, now));
}

void admission_policy_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& kind = object_or_empty(spec_of(object), "paramKind");
  cells.emplace_back(static_cast<std::int64_t>(array_or_empty(spec_of(object), "validations").size()));
  cells.emplace_back(kind.empty() ? "<unset>"
                                  : std::string(text_of(kind, "apiVersion")) + "/" +
                                        std::string(text_of(kind, "kind")));
  cells.emplace_back(age_of(object, now));
}

void admission_policy_binding_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& param = object_or_empty(spec_of(object), "paramRef");
  std::string words = "<unset>";
  if (const std::string_view name = text_of(param, "name"); !name.empty()) {
    const std::string_view ns = text_of(param, "namespace");
    words = (ns.empty() ? std::string("*") : std::string(ns)) + "/" + std::string(name);
  } else if (param.contains("selector")) {
    words = to_json(param.at("selector"));
  }
  cells.emplace_back(json::string(text_of(spec_of(object), "policyName")));
  cells.emplace_back(words);
  cells.emplace_back(age_of(object, now));
}

void api_service_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& service = object_or_empty(spec_of(object), "service");
  std::string available = "Unknown";
  for_each_object(object_or_empty(object, "status"), "conditions",
                  [&](std::size_t, const json::object& condition) {
                    if (text_of(condition, "type") != "Available") return;
                    available = text_of(condition, "status");
                    if (available != "True")
                      available += " (" + std::string(text_of(condition, "reason")) + ")";
                  });
  cells.emplace_back(service.empty() ? "Local"
                                     : std::string(text_of(service, "namespace")) + "/" +
                                           std::string(text_of(service, "name")));
  cells.emplace_back(available);
  cells.emplace_back(age_of(object, now));
}

void component_status_cells(const json::object& object, Now, json::array& cells) {
  std::string status = "Unknown", message, error;
  for_each_object(object, "conditions", [&](std::size_t, const json::object& condition) {
    if (text_of(condition, "type") != "Healthy") return;
    status = text_of(condition, "status") == "True" ? "Healthy" : "Unhealthy";
    message = text_of(condition, "message");
    error = text_of(condition, "error");
  });
  cells.emplace_back(status);
  cells.emplace_back(message);
  cells.emplace_back(error);
}

void pod_explanation_cells(const json::object& object, Now, json::array& cells) {
  cells.emplace_back(or_none(text_of(object, "nodeName")));
  cells.emplace_back(or_none(text_of(object, "wouldGoTo")));
  cells.emplace_back(text_of(object, "message"));
}

void csi_driver_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& spec = spec_of(object);
  std::vector<std::string> modes, audiences;
  for (const json::value& mode : array_or_empty(spec, "volumeLifecycleModes")) {
    if (mode.is_string()) modes.emplace_back(mode.get_string());
  }
  for_each_object(spec, "tokenRequests", [&](std::size_t, const json::object& token) {
    audiences.emplace_back(text_of(token, "audience"));
  });
  cells.emplace_back(!spec.contains("attachRequired") || flag_of(spec, "attachRequired"));
  cells.emplace_back(flag_of(spec, "podInfoOnMount"));
  cells.emplace_back(flag_of(spec, "storageCapacity"));
  cells.emplace_back(audiences.empty() ? "<unset>" : join(audiences, ","));
  cells.emplace_back(flag_of(spec, "requiresRepublish"));
  cells.emplace_back(or_none(join(modes, ",")));
  cells.emplace_back(age_of(object, now));
}

void csi_storage_capacity_cells(const json::object& object, Now, json::array& cells) {
  const std::string_view capacity = text_of(object, "capacity");
  cells.emplace_back(json::string(text_of(object, "storageClassName")));
  cells.emplace_back(capacity.empty() ? "<unset>" : std::string(capacity));
}

void csi_node_cells(const json::object& object, Now now, json::array& cells) {
  cells.emplace_back(static_cast<std::int64_t>(array_or_empty(spec_of(object), "drivers").size()));
  cells.emplace_back(age_of(object, now));
}

void csr_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& spec = spec_of(object);
  const std::int64_t seconds = int_of(spec, "expirationSeconds");
  cells.emplace_back(age_of(object, now));
  cells.emplace_back(json::string(text_of(spec, "signerName")));
  cells.emplace_back(json::string(text_of(spec, "username")));
  cells.emplace_back(seconds == 0 ? "<none>" : human_duration(seconds * kSecond));
  cells.emplace_back(csr_condition(object));
}

void flow_schema_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& spec = spec_of(object);
  std::string missing = "?";
  for_each_object(object_or_empty(object, "status"), "conditions",
                  [&](std::size_t, const json::object& condition) {
                    if (text_of(condition, "type") == "Dangling") missing = text_of(condition, "status");
                  });
  cells.emplace_back(json::string(text_of(object_or_empty(spec, "priorityLevelConfiguration"), "name")));
  cells.emplace_back(int_of(spec, "matchingPrecedence"));
  cells.emplace_back(or_none(text_of(object_or_empty(spec, "distinguisherMethod"), "type")));
  cells.emplace_back(age_of(object, now));
  cells.emplace_back(missing);
}

void priority_level_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& spec = spec_of(object);
  const json::object& limited = object_or_empty(spec, "limited");
  const json::object& queuing = object_or_empty(object_or_empty(limited, "limitResponse"), "queuing");
  const auto number = [](const json::object& from, const char* field) {
    return from.contains(field) ? json::value(int_of(from, field)) : json::value("<none>");
  };
  cells.emplace_back(json::string(text_of(spec, "type")));
  cells.push_back(number(limited, "nominalConcurrencyShares"));
  for (const char* field : {"queues", "handSize", "queueLengthLimit"})
    cells.push_back(number(queuing, field));
  cells.emplace_back(age_of(object, now));
}

void ip_address_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& parent = object_or_empty(spec_of(object), "parentRef");
  std::string words(text_of(parent, "resource"));
  if (const std::string_view group = text_of(parent, "group"); !group.empty())
    words += "." + std::string(group);
  for (const char* field : {"namespace", "name"}) {
    if (const std::string_view text = text_of(parent, field); !text.empty()) words += "/" + std::string(text);
  }
  cells.emplace_back(words);
  cells.emplace_back(age_of(object, now));
}

void service_cidr_cells(const json::object& object, Now now, json::array& cells) {
  std::vector<std::string> ranges;
  for (const json::value& range : array_or_empty(spec_of(object), "cidrs")) {
    if (range.is_string()) ranges.emplace_back(range.get_string());
  }
  cells.emplace_back(join(ranges, ","));
  cells.emplace_back(age_of(object, now));
}

void volume_attributes_class_cells(const json::object& object, Now now, json::array& cells) {
  cells.emplace_back(json::string(text_of(object, "driverName")));
  cells.emplace_back(age_of(object, now));
}

void volume_attachment_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& spec = spec_of(object);
  cells.emplace_back(json::string(text_of(spec, "attacher")));
  cells.emplace_back(json::string(text_of(object_or_empty(spec, "source"), "persistentVolumeName")));
  cells.emplace_back(json::string(text_of(spec, "nodeName")));
  cells.emplace_back(flag_of(object_or_empty(object, "status"), "attached"));
  cells.emplace_back(age_of(object, now));
}

}  // namespace orchestra::api
