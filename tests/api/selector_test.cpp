// Label and field selectors.
#include "orchestra/selector.hpp"

#include "api/select.hpp"
#include "tests/api/support.hpp"

using namespace orchestra;

namespace {
using Labels = std::map<std::string, std::string>;
bool selects(std::string_view text, const Labels& labels) {
  return Selector::parse(text).value().matches(labels);
}
}  // namespace

TEST_CASE("label selectors match as kubectl -l does") {
  const Labels web{{"app", "web"}, {"tier", "front"}, {"n", "5"}};
  for (const char* text :
       {"", "app=web", "app==web", "app!=db", "app in (web, db)", "other notin (x)", "app", "!other",
        "app=web,tier=front", " app = web , !x ", "n>4", "n<6", "other!=x", "app=web,"}) {
    CAPTURE(text);
    CHECK(selects(text, web));
  }
  for (const char* text : {"app=db", "app!=web", "app notin (web)", "other", "!app", "other in (x)", "n>5",
                           "app=web,tier=back", "app="}) {
    CAPTURE(text);
    CHECK_FALSE(selects(text, web));
  }
}

TEST_CASE("malformed label selectors are refused") {
  for (const char* text : {"a b", "=x", "a in", "a in (", "a in (x", "a in x", "a,,b", "a==b=c", "a>x", "-a",
                           "a=b c", "(a)", "a/b/c=d", "!"}) {
    CAPTURE(text);
    CHECK_FALSE(Selector::parse(text).has_value());
  }
}

TEST_CASE("label selectors print sorted by key and read back") {
  for (const char* text : {"b=1,a=2", "x in (b,a),!c,d", "e!=f,g notin (i,h)", "n>1"}) {
    const Selector selector = Selector::parse(text).value();
    CHECK(Selector::parse(selector.to_string()).value() == selector);
  }
  CHECK(Selector::parse("b=1,a in (z,y),!c").value().to_string() == "a in (y,z),b=1,!c");
}

TEST_CASE("a LabelSelector object selects; an absent one nothing, an empty one everything") {
  const auto read = [](const char* text) { return Selector::from_label_selector(text).value(); };
  CHECK(read("{}").matches({}));
  CHECK_FALSE(read("null").matches({}));
  CHECK_FALSE(Selector::nothing().matches({}));
  const Selector both = read(
      R"({"matchLabels":{"a":"b"},"matchExpressions":[{"key":"c","operator":"In","values":["y","x"]},{"key":"d","operator":"DoesNotExist"}]})");
  CHECK(both.matches({{"a", "b"}, {"c", "x"}}));
  CHECK_FALSE(both.matches({{"a", "b"}, {"c", "x"}, {"d", ""}}));
  CHECK_FALSE(
      Selector::from_label_selector(R"({"matchExpressions":[{"key":"c","operator":"In"}]})").has_value());
  CHECK_FALSE(
      Selector::from_label_selector(R"({"matchExpressions":[{"key":"c","operator":"Like"}]})").has_value());
}

TEST_CASE("field selectors know the fields of their type") {
  const json::value pod = test::from_yaml(
      "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: ns1}, spec: {nodeName: n1}, status: "
      "{phase: Running}}");
  const auto record = test::type_of(pod);
  const auto selects_pod = [&](const char* text) {
    return api::matches(*record, api::parse_field_selector(*record, text).value(), pod);
  };
  CHECK(selects_pod(""));
  CHECK(selects_pod("spec.nodeName=n1,status.phase!=Failed"));
  CHECK(selects_pod("metadata.name=p,metadata.namespace==ns1"));
  CHECK(selects_pod("spec.hostNetwork=false"));
  CHECK_FALSE(selects_pod("spec.nodeName="));
  CHECK_FALSE(selects_pod("status.podIP=1"));
  const auto unknown = api::parse_field_selector(*record, "spec.color=red");
  REQUIRE_FALSE(unknown.has_value());
  CHECK(unknown.error().detail<Status>()->message == "field label not supported: spec.color");
  CHECK_FALSE(api::parse_field_selector(*record, "metadata.name").has_value());
  CHECK(FieldSelector::parse("a=b\\,c,d!=e").value().terms().at(0).value == "b,c");
  CHECK(FieldSelector::parse("x=1,metadata.name=web").value().required_value("metadata.name") == "web");
}
