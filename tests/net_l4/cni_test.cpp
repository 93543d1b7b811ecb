// CNI: configurations, versions, what plugins are told; the order of ADD and DEL with plugins made of shell;
// and Debian's plugins on real namespaces.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "api/pod_attacher.hpp"
#include "net/cni/configuration.hpp"
#include "net/cni/plugin.hpp"
#include "net/podnet/in_namespace.hpp"
#include "orchestra/cni_runtime.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/env.hpp"
#include "tests/net_l4/net_lab.hpp"

using namespace orchestra;
using namespace orchestra::net;
using namespace orchestra::test;
using namespace std::chrono_literals;

namespace {

/// Plugins are programs: `body` runs in sh with the command in $CNI_COMMAND and the input in $in. Each call
/// adds "NAME COMMAND" to the log.
struct CniLab {
  Engine engine;
  TempDir dir;
  CniLab() {
    make_directories(dir / "bin", 0700).value();
    make_directories(dir / "conf", 0700).value();
  }
  void plugin(const std::string& name, const std::string& body,
              const std::string& versions = R"("0.3.1","0.4.0","1.0.0")") {
    const std::string path = dir / ("bin/" + name);
    write_file(
        path, "#!/bin/sh\nin=$(cat)\nif [ $CNI_COMMAND = VERSION ]; then\n echo '{\"cniVersion\":\"1.0.0\"," +
                  ("\"supportedVersions\":[" + versions) + "]}'\n exit 0\nfi\necho " + name +
                  " $CNI_COMMAND >>" + (dir / "log") + "\n" + body + "\n")
        .value();
    REQUIRE(::chmod(path.c_str(), 0700) == 0);
  }
  std::shared_ptr<CniRuntime> open(Duration deadline = 30s) {
    CniOptions options;
    options.data_dir = dir / "data";
    options.configuration_dir = dir / "conf";
    options.plugin_dirs = {dir / "bin"};
    options.plugin_deadline = deadline;
    options.interface_name = "lo";  // of the pod, which is this process: what these plugins make is there
    return CniRuntime::open(engine, options).value();
  }
  /// A list of plugins of these types, with keys of their own.
  void configure(const std::vector<std::string>& plugins, const std::string& more = "",
                 const std::string& version = "1.0.0") {
    std::string list;
    for (const std::string& one : plugins) list += (list.empty() ? "" : ",") + one;
    write_file(dir / "conf/10-test.conflist", "{\"cniVersion\":\"" + version + "\",\"name\":\"test\"" + more +
                                                  ",\"plugins\":[" + list + "]}")
        .value();
  }
  std::string take_log() {
    std::string text = read_file(dir / "log", 1 << 20).value_or("");
    ::unlink((dir / "log").c_str());
    std::replace(text.begin(), text.end(), '\n', ';');
    return text;
  }
  Result<CniResult> add(CniRuntime& runtime, const std::string& id, const std::string& capabilities = "{}") {
    return runtime.add({id, pod, "default", "p", capabilities}).wait(60s);
  }
  NetworkNamespace pod =
      NetworkNamespace(std::make_shared<Fd>(Fd(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC))));
};

const std::string kResult =
    R"(echo '{"cniVersion":"1.0.0","interfaces":[{"name":"v0"},{"name":"eth0","sandbox":"/x"}],)"
    R"("ips":[{"address":"10.9.0.1/24","interface":0},{"address":"10.9.0.2/24","interface":1}]}')";

bool says(const Error& error, const std::string& part) {
  return error.to_string().find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("the first configuration by name is used, a single plugin is a list of one, bad ones are named") {
  CHECK(choose_cni_file({"20-b.conf", "10-a.conflist", "05-x.txt", "10-a.json"}) == "10-a.conflist");
  CHECK(choose_cni_file({"readme"}) == std::nullopt);
  const auto one = parse_cni_configuration(R"({"cniVersion":"0.4.0","name":"n","type":"bridge","x":1})", "f");
  REQUIRE(one);
  CHECK(one->plugins.size() == 1);
  CHECK(one->versions == std::vector<std::string>{"0.4.0"});
  const auto both = parse_cni_configuration(
      R"({"cniVersion":"1.1.0","cniVersions":["0.4.0","1.0.0","9.0.0"],"name":"n","disableCheck":"true","disableGC":true,
          "plugins":[{"type":"a"},{"type":"b"}]})",
      "f");
  REQUIRE(both);
  CHECK(both->versions == std::vector<std::string>{"0.4.0", "1.0.0", "1.1.0"});
  CHECK(both->disable_check);
  CHECK(both->disable_gc);
  struct Row {
    const char *text, *why;
  };
  for (const Row& row : {Row{"{", "f"}, Row{"[]", "not an object"}, Row{R"({"type":"a"})", "no name"},
                         Row{R"({"name":"n","cniVersion":"2.0.0","type":"a"})", "no version between"},
                         Row{R"({"name":"n","plugins":[]})", "no plugins"},
                         Row{R"({"name":"n","plugins":[1]})", "not an object"},
                         Row{R"({"name":"n","type":"../../bin/sh"})", "names no program"},
                         Row{R"({"name":"n"})", "names no program"}}) {
    const auto refused = parse_cni_configuration(row.text, "f");
    REQUIRE_FALSE(refused);
    CHECK_MESSAGE(says(refused.error(), row.why), refused.error().to_string());
  }
}

TEST_CASE("the version is the highest of the configuration that every plugin speaks") {
  const auto list = parse_cni_configuration(
                        R"({"cniVersion":"1.1.0","cniVersions":["0.2.0","0.4.0","1.0.0"],"name":"n",
                            "plugins":[{"type":"a"},{"type":"b"}]})",
                        "f")
                        .value();
  CHECK(
      negotiate_cni_version(list, {{"a", {"0.4.0", "1.0.0", "1.1.0"}}, {"b", {"0.4.0", "1.0.0"}}}).value() ==
      "1.0.0");
  CHECK(negotiate_cni_version(list, {{"a", {"1.1.0"}}, {"b", {"1.1.0"}}}).value() == "1.1.0");
  CHECK(says(negotiate_cni_version(list, {{"a", {"1.1.0"}}, {"b", {"1.0.0"}}}).error(), "1.1.0 not by b"));
  CHECK(
      says(negotiate_cni_version(list, {{"a", {"0.2.0"}}, {"b", {"0.2.0"}}}).error(), "0.2.0 not by a list"));
  CHECK(cni_version_at_least("1.0.0", "0.4.0"));
  CHECK_FALSE(cni_version_at_least("0.3.1", "0.4.0"));
  CHECK_FALSE(cni_version_at_least("x", "0.1.0"));
}

TEST_CASE("a plugin is told its own keys, the capabilities it declares and the result before it") {
  const auto list = parse_cni_configuration(
                        R"({"cniVersion":"1.0.0","name":"n","plugins":[
              {"type":"a","own":{"deep":[1]},"capabilities":{"portMappings":true,"bandwidth":false,"mac":true}}]})",
                        "f")
                        .value();
  CniInput input{"1.0.0", parse_json(R"({"portMappings":[1],"bandwidth":{},"other":1})")->get_object(),
                 R"({"ips":[]})", nullptr, "eth0"};
  CHECK(cni_input(list, 0, input) ==
        to_json(parse_json(R"({"type":"a","own":{"deep":[1]},"cniVersion":"1.0.0","name":"n",
                               "runtimeConfig":{"portMappings":[1]},"prevResult":{"ips":[]}})")
                    .value()));
  const std::set<std::string> valid{"x"};
  input = {"1.1.0", {}, "", &valid, "eth0"};
  CHECK(cni_input(list, 0, input)
            .find(R"("cni.dev/valid-attachments":[{"containerID":"x","ifname":"eth0"}])") !=
        std::string::npos);
}

TEST_CASE(
    "addresses are those of the pod's interface first; what is no result is an error with the plugin's "
    "name") {
  const auto result = parse_cni_result(
      R"({"interfaces":[{"name":"br0"},{"name":"eth0","sandbox":"/n"}],
          "ips":[{"address":"10.0.0.1/24","interface":0},{"address":"fd00::2/64","interface":1},{"address":"10.0.0.2/24"}]})",
      "p");
  REQUIRE(result);
  CHECK(result->addresses == std::vector<std::string>{"fd00::2/64", "10.0.0.2/24", "10.0.0.1/24"});
  CHECK(result->host_link == "br0");
  CHECK(parse_cni_result(R"({"ip4":{"ip":"10.0.0.2/24"}})", "p")->addresses.at(0) == "10.0.0.2/24");
  for (const char* bad : {"", "{", "[]", R"({"ips":[{"address":"10.0.0.2"}]})",
                          R"({"ips":[{"address":"10.0.0.2/33"}]})", R"({"ips":[{"address":"x/24"}]})"}) {
    const auto refused = parse_cni_result(bad, "weird");
    REQUIRE_FALSE(refused);
    CHECK(says(refused.error(), "CNI plugin weird answered no result"));
  }
}

TEST_CASE("ADD goes in order with each result handed on, DEL in reverse, and both are done once") {
  CniLab lab;
  lab.plugin("first", kResult);
  lab.plugin("second", "echo \"$in\" | grep -q '\"prevResult\":{' || exit 1\necho \"$in\" >>" +
                           (lab.dir / "told") + "\necho \"$CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS\" >>" +
                           (lab.dir / "told") + "\n" + kResult);
  lab.configure({R"({"type":"first"})", R"({"type":"second","capabilities":{"portMappings":true}})"});
  auto runtime = lab.open();
  const auto added = lab.add(*runtime, "uid-1", R"({"portMappings":[{"hostPort":80}]})");
  REQUIRE_MESSAGE(added, (added ? "" : added.error().to_string()));
  CHECK(added->addresses == std::vector<std::string>{"10.9.0.2/24", "10.9.0.1/24"});
  const std::string told = read_file(lab.dir / "told", 1 << 20).value();
  CHECK(told.find("\"runtimeConfig\":{\"portMappings\":[{\"hostPort\":80}]}") != std::string::npos);
  CHECK(told.find("uid-1 lo IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=p;") != std::string::npos);
  CHECK(lab.take_log() == "first ADD;second ADD;");
  CHECK(lab.add(*runtime, "uid-1")->addresses == added->addresses);
  CHECK(lab.take_log() == "");
  runtime->check("uid-1").wait(60s).value();
  CHECK(lab.take_log() == "first CHECK;second CHECK;");
  CHECK(runtime->check("uid-2").wait(60s).error().is(Error::not_found));
  runtime = lab.open();  // another process
  CHECK(runtime->known() == std::set<std::string>{"uid-1"});
  CHECK(lab.add(*runtime, "uid-1")->addresses == added->addresses);
  runtime->remove("uid-1").wait(60s).value();
  CHECK(lab.take_log() == "second DEL;first DEL;");
  runtime->remove("uid-1").wait(60s).value();
  CHECK(lab.take_log() == "");
  CHECK(runtime->known().empty());
}

TEST_CASE("what ADD answered holds for the namespace it was for: in another one the pod is added anew") {
  const char* name =
      "what ADD answered holds for the namespace it was for: in another one the pod is added anew";
  if (!can_make_namespaces()) ORC_SKIP(name, "needs root: network namespaces cannot be made");
  CniLab lab;
  lab.plugin("first", kResult);
  lab.configure({R"({"type":"first"})"});
  CniOptions options;
  options.data_dir = lab.dir / "data";
  options.configuration_dir = lab.dir / "conf";
  options.plugin_dirs = {lab.dir / "bin"};
  options.interface_name = "wire";
  auto runtime = CniRuntime::open(lab.engine, options).value();
  auto pod = make_host(), other = make_host();
  wire(pod, "wire", "192.0.2.1/24", other, "other", "192.0.2.2/24");
  runtime->add({"uid-1", pod, "default", "p"}).wait(60s).value();
  runtime->add({"uid-1", pod, "default", "p"}).wait(60s).value();
  CHECK(lab.take_log() == "first ADD;");
  const auto fresh = make_host();  // the machine was started anew
  runtime->add({"uid-1", fresh, "default", "p"}).wait(60s).value();
  CHECK(lab.take_log() == "first DEL;first ADD;");
}

TEST_CASE("each pod is detached by what attached it, whatever is configured since") {
  CniLab lab;
  lab.plugin("first", kResult);
  lab.configure({R"({"type":"first"})"});
  auto node =
      make_process_pod_network(lab.engine, {.data_dir = lab.dir / "node", .node_index = 3997}).value();
  const auto pods = [&](bool by_plugins) {
    CniOptions options;
    options.data_dir = lab.dir / "data";
    options.configuration_dir = by_plugins ? lab.dir / "conf" : "";
    options.plugin_dirs = {lab.dir / "bin"};
    options.interface_name = "lo";
    return make_cni_attacher(CniRuntime::open(lab.engine, options).value(), node, by_plugins);
  };
  const auto attach = [&](PodAttacher& to, const std::string& uid) {
    return to.attach({uid, "default", uid, lab.pod.fd()}).wait(60s).value().addresses.front();
  };
  CHECK(attach(*node, "before") == "127.143.157.2");
  auto with = pods(true);
  CHECK(attach(*with, "before") == "127.143.157.2");
  CHECK(attach(*with, "plugged") == "10.9.0.2");
  CHECK(attach(*with, "plugged-too") == "10.9.0.2");
  CHECK(lab.take_log() == "first ADD;first ADD;");
  auto without = pods(false);  // started again without plugins
  CHECK(attach(*without, "plugged") == "10.9.0.2");
  CHECK(attach(*without, "after") == "127.143.157.3");
  CHECK(without->list().value().size() == 4);
  CHECK(lab.take_log() == "");
  without->detach("plugged").wait(60s).value();
  CHECK(lab.take_log() == "first DEL;");
  without->detach("before").wait(60s).value();
  auto with_again = pods(true);
  with_again->detach("after").wait(60s).value();
  CHECK(lab.take_log() == "");
  CHECK(node->list().value().empty());
  with_again->detach("plugged-too").wait(60s).value();
  CHECK(lab.take_log() == "first DEL;");
  CHECK(with_again->list().value().empty());
}

TEST_CASE("without a configuration nothing is added, and what was added before is taken back") {
  CniLab lab;
  lab.plugin("first", kResult);
  lab.configure({R"({"type":"first"})"});
  lab.add(*lab.open(), "uid-1").value();
  lab.take_log();
  CniOptions options;
  options.data_dir = lab.dir / "data";
  options.configuration_dir = "";
  options.plugin_dirs = {lab.dir / "bin"};
  auto runtime = CniRuntime::open(lab.engine, options).value();
  CHECK(lab.add(*runtime, "uid-2").error().is(Error::unavailable));
  runtime->collect({}).wait(60s).value();
  CHECK(lab.take_log() == "first DEL;");
}

TEST_CASE("a plugin that fails ends ADD, the whole list gets DEL, and its words are in the error") {
  CniLab lab;
  lab.plugin("first", kResult);
  lab.plugin("second",
             "[ $CNI_COMMAND = ADD ] || exit 0\necho wrote this >&2\n"
             "echo '{\"cniVersion\":\"1.0.0\",\"code\":11,\"msg\":\"no lease yet\",\"details\":\"ask "
             "later\"}'\nexit 1");
  lab.plugin("third", kResult);
  lab.configure({R"({"type":"first"})", R"({"type":"second"})", R"({"type":"third"})"});
  auto runtime = lab.open();
  const auto refused = lab.add(*runtime, "uid-1");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().is(Error::unavailable));
  CHECK(says(refused.error(),
             "CNI plugin second failed at ADD: no lease yet; ask later (code 11); it wrote: wrote this"));
  CHECK(lab.take_log() == "first ADD;second ADD;third DEL;second DEL;first DEL;");
  CHECK(runtime->known().empty());
}

TEST_CASE("a DEL that fails is done again, the rest of the list is not kept from it") {
  CniLab lab;
  lab.plugin("first", kResult);
  lab.plugin("second", "[ $CNI_COMMAND = DEL ] && [ -e " + (lab.dir / "broken") + " ] && exit 7\n" + kResult);
  lab.configure({R"({"type":"first"})", R"({"type":"second"})"});
  auto runtime = lab.open();
  lab.add(*runtime, "uid-1").value();
  lab.take_log();
  write_file(lab.dir / "broken", "").value();
  CHECK(says(runtime->remove("uid-1").wait(60s).error(), "CNI plugin second failed at DEL with status 7"));
  CHECK(lab.take_log() == "second DEL;first DEL;");
  CHECK(runtime->known().size() == 1);
  ::unlink((lab.dir / "broken").c_str());
  runtime->collect({}).wait(60s).value();
  CHECK(lab.take_log() == "second DEL;first DEL;");
  CHECK(runtime->known().empty());
}

TEST_CASE("a plugin that hangs, one that says too much and one that is not there are named") {
  CniLab lab;
  lab.plugin("hangs", "exec sleep 100");
  lab.configure({R"({"type":"hangs"})"});
  auto runtime = lab.open(300ms);
  const auto late = lab.add(*runtime, "uid-1");
  CHECK(says(late.error(), "did not end in its time"));
  CHECK(says(late.error(), "CNI plugin hangs at ADD"));
  lab.plugin("talks", "head -c 2000000 /dev/zero");
  lab.configure({R"({"type":"talks"})"});
  CHECK(says(lab.add(*lab.open(), "uid-2").error(), "CNI plugin talks wrote more than 1048576 bytes"));
  lab.configure({R"({"type":"nowhere"})"});
  CHECK(says(lab.add(*lab.open(), "uid-3").error(), "CNI plugin nowhere is not in"));
  CHECK(says(lab.open()->status().wait(60s).error(), "CNI plugin nowhere is not in"));
  CHECK(says(lab.add(*lab.open(), "../x").error(), "is no CNI container id"));
}

TEST_CASE("GC and STATUS are for 1.1: those who are valid are told, a node that is not ready says so") {
  CniLab lab;
  lab.plugin("new",
             "[ $CNI_COMMAND = GC ] && echo \"$in\" >" + (lab.dir / "told") +
                 "\n[ $CNI_COMMAND = STATUS ] && { echo '{\"code\":50,\"msg\":\"not yet\"}'; exit 1; }\n" +
                 kResult,
             R"("1.0.0","1.1.0")");
  lab.configure({R"({"type":"new"})"}, "", "1.1.0");
  auto runtime = lab.open();
  lab.add(*runtime, "keep").value();
  lab.add(*runtime, "drop").value();
  lab.take_log();
  runtime->collect({"keep"}).wait(60s).value();
  CHECK(lab.take_log() == "new DEL;new GC;");
  CHECK(read_file(lab.dir / "told", 1 << 20)->find(R"([{"containerID":"keep","ifname":"lo"}])") !=
        std::string::npos);
  CHECK(runtime->status().wait(60s).error().is(Error::unavailable));
  lab.configure({R"({"type":"new"})"}, "", "1.0.0");
  runtime->status().wait(60s).value();
  lab.configure({R"({"type":"new"})"}, ",\"disableGC\":true", "1.1.0");
  lab.take_log();
  runtime->collect({"keep"}).wait(60s).value();
  CHECK(lab.take_log() == "");
}

TEST_CASE(
    "Debian's plugins: pods on a bridge with addresses, a port of the machine, and all of it taken back") {
  const char* name =
      "Debian's plugins: pods on a bridge with addresses, a port of the machine, and all of it taken back";
  if (!can_make_namespaces()) ORC_SKIP(name, "needs root: network namespaces cannot be made");
  const std::string dir = "/usr/lib/cni";
  if (::access((dir + "/bridge").c_str(), X_OK) != 0)
    ORC_SKIP(name, "Debian's containernetworking-plugins is not installed");
  Engine engine;
  TempDir data;
  auto host = make_host();
  CniOptions options;
  options.data_dir = data / "results";
  options.plugin_dirs = {dir};
  options.name_space = host;
  // The newest version that they do not know is named, too: both sides go down to 1.0.0.
  options.configuration = R"({"cniVersion":"1.1.0","cniVersions":["0.4.0","1.0.0"],"name":"lab","plugins":[
      {"type":"bridge","bridge":"cni0","isGateway":true,"hairpinMode":true,
       "ipam":{"type":"host-local","dataDir":")" +
                          (data / "leases") + R"(","ranges":[[{"subnet":"10.22.0.0/24"}]],
               "routes":[{"dst":"0.0.0.0/0"}]}}]})";
  auto runtime = CniRuntime::open(engine, options).value();
  auto pods =
      make_cni_attacher(runtime, make_process_pod_network(engine, {.data_dir = data / "node"}).value(), true);
  auto pod_a = NetworkNamespace::create().value(), pod_b = NetworkNamespace::create().value();
  const auto a = pods->attach({"uid-a", "default", "a", pod_a.fd()}).wait(60s);
  REQUIRE_MESSAGE(a, (a ? "" : a.error().to_string()));
  pods->attach({"uid-b", "default", "b", pod_b.fd()}).wait(60s).value();
  CHECK(a->addresses == std::vector<std::string>{"10.22.0.2"});
  TcpAnswerer in_b(pod_b, "0.0.0.0", 8080, "b here");
  CHECK(ask_tcp(pod_a, "10.22.0.3", 8080) == "b here");
  CHECK(in_b.last_client() == "10.22.0.2");
  CHECK(ask_tcp(host, "10.22.0.3", 8080) == "b here");
  runtime->check("uid-a").wait(60s).value();
  CHECK_FALSE(pods->attach({"uid-c", "default", "c", pod_b.fd()}).wait(60s));  // eth0 is there already
  CHECK(runtime->known() == std::set<std::string>{"uid-a", "uid-b"});
  pods->detach("uid-a").wait(60s).value();
  pod_b = {};
  runtime = CniRuntime::open(engine, options).value();
  runtime->collect({}).wait(60s).value();  // DEL without the namespace: host-local gives the address back
  CHECK(runtime->known().empty());
  CHECK_FALSE(read_file(data / "leases/lab/10.22.0.3", 4096));
  CHECK(read_file(data / "leases/lab/last_reserved_ip.0", 4096));
}

TEST_CASE(
    "our own plugin: another runtime's calls attach pods with ports, check, take back and collect them") {
  const char* name =
      "our own plugin: another runtime's calls attach pods with ports, check, take back and collect them";
  if (!can_make_namespaces()) ORC_SKIP(name, "needs root: network namespaces cannot be made");
  Engine engine;
  TempDir data;
  auto host = make_host();
  const auto before = machine_state(host);
  const auto call = [&](const std::string& command, const std::string& id, const NetworkNamespace* pod,
                        const std::string& more = "") {
    CniCall out{command, id, pod == nullptr ? "" : "/proc/self/fd/" + std::to_string(pod->fd()->get()),
                "eth0",  "", host};
    out.input =
        R"({"cniVersion":"1.1.0","name":"lab","type":"orchestra-cni","podCIDR":"10.23.0.0/24","dataDir":")" +
        data.path() + "\"" + more + "}";
    return answer_cni_call(engine, out);
  };
  CHECK(parse_cni_versions(call("VERSION", "", nullptr).output, "own")->back() == "1.1.0");
  CHECK(call("STATUS", "", nullptr).exit_code == 0);
  auto pod_a = NetworkNamespace::create().value(), pod_b = NetworkNamespace::create().value();
  const auto a =
      call("ADD", "box-a", &pod_a,
           R"(,"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]})");
  REQUIRE_MESSAGE(a.exit_code == 0, a.output);
  CHECK(parse_cni_result(a.output, "own")->addresses == std::vector<std::string>{"10.23.0.2/32"});
  CHECK(call("ADD", "box-b", &pod_b).exit_code == 0);
  TcpAnswerer web(pod_a, "0.0.0.0", 80, "web");
  CHECK(ask_tcp(pod_b, "10.23.0.2", 80) == "web");
  CHECK(ask_tcp(host, "127.0.0.1", 8080) == "web");
  CHECK(call("CHECK", "box-a", &pod_a).exit_code == 0);
  CHECK(cni_error_code(call("CHECK", "box-x", &pod_a).output) == 3);
  CHECK(call("ADD", "box-c", &pod_b).exit_code == 1);  // eth0 is there already
  CHECK(cni_error_code(call("ADD", "box-d", nullptr).output) == 4);
  CHECK(call("DEL", "box-a", nullptr).exit_code == 0);
  CHECK(call("DEL", "box-a", nullptr).exit_code == 0);
  CHECK(ask_tcp(host, "127.0.0.1", 8080) == "error: ECONNREFUSED");
  CHECK(call("GC", "", nullptr, R"(,"cni.dev/valid-attachments":[])").exit_code == 0);
  CHECK(cni_error_code(call("CHECK", "box-b", &pod_b).output) == 3);
  const auto refused_ports = [&](const std::string& mapping) {
    const auto answer =
        call("ADD", "box-p", &pod_b, ",\"runtimeConfig\":{\"portMappings\":[" + mapping + "]}");
    return cni_error_code(answer.output) == 7 && answer.output.find("portMappings") != std::string::npos;
  };
  CHECK(refused_ports(R"({"hostPort":0,"containerPort":80})"));
  CHECK(refused_ports(R"({"hostPort":65616,"containerPort":80})"));
  CHECK(refused_ports(R"({"hostPort":80})"));
  CHECK(refused_ports(R"({"hostPort":80,"containerPort":-1})"));
  CHECK(refused_ports(R"({"hostPort":80,"containerPort":80,"protocol":"icmp"})"));
  CHECK(refused_ports(R"({"hostPort":80,"containerPort":80,"hostIP":"here"})"));
  CHECK(refused_ports("80"));
  for (const char* id : {"", "../box", "-box", "a/b"})
    CHECK(cni_error_code(call("DEL", id, nullptr).output) == 4);
  CniCall bad{"ADD", "box", "", "eth0", "{", host};
  CHECK(cni_error_code(answer_cni_call(engine, bad).output) == 6);
  bad.input = R"({"cniVersion":"9.0.0","name":"lab"})";
  CHECK(cni_error_code(answer_cni_call(engine, bad).output) == 1);
  bad.input = R"({"cniVersion":"1.0.0","name":"lab","podCIDR":"x","dataDir":")" + data.path() + "\"}";
  CHECK(cni_error_code(answer_cni_call(engine, bad).output) == 7);
  bad.input = R"({"cniVersion":"1.0.0","name":"..","podCIDR":"10.23.0.0/24"})";
  CHECK(cni_error_code(answer_cni_call(engine, bad).output) == 7);
  PodNetwork::remove_leftovers(data.path(), host).value();
  CHECK(machine_state(host) == before);
  CHECK(ruleset(host) == "");
}

TEST_CASE(
    "our own plugin gives addresses of IPv6, and ports of the machine by it, where its network has them") {
  NEEDS_ROOT(
      "our own plugin gives addresses of IPv6, and ports of the machine by it, where its network has them");
  Engine engine;
  TempDir data;
  auto host = make_host(), outside = make_host();
  wire(host, "uplink6", "2001:db8::1/64", outside, "eth6", "2001:db8::2/64");
  auto pod = NetworkNamespace::create().value();
  const auto add = [&](const std::string& version, const std::string& more) {
    CniCall call{"ADD", "box", "/proc/self/fd/" + std::to_string(pod.fd()->get()), "eth0", "", host};
    call.input = R"({"cniVersion":")" + version +
                 R"(","name":"lab","type":"orchestra-cni","podCIDR":"10.23.0.0/24","dataDir":")" +
                 data.path() + R"(","runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80,)" +
                 R"("hostIP":"2001:db8::1"}]})" + more + "}";
    return answer_cni_call(engine, call);
  };
  const auto refused = add("1.1.0", "");
  CHECK(cni_error_code(refused.output) == 7);
  CHECK(refused.output.find("no clusterCIDR6") != std::string::npos);
  PodNetwork::remove_leftovers(data.path(), host).value();  // the folder keeps its ranges
  const auto added = add("0.4.0", R"(,"clusterCIDR6":"fd00:23::/96")");
  REQUIRE_MESSAGE(added.exit_code == 0, added.output);
  CHECK(parse_cni_result(added.output, "own")->addresses ==
        std::vector<std::string>{"10.23.0.2/32", "fd00:23::a17:2/128"});
  CHECK(added.output.find(
            R"({"address":"fd00:23::a17:2/128","gateway":"fe80::1","interface":1,"version":"6"})") !=
        std::string::npos);
  CHECK(added.output.find(R"({"dst":"::/0","gw":"fe80::1"})") != std::string::npos);
  TcpAnswerer web(pod, "::", 80, "web");
  CHECK(ask_tcp(host, "fd00:23::a17:2", 80) == "web");
  CHECK(ask_tcp(outside, "2001:db8::1", 8080) == "web");
  PodNetwork::remove_leftovers(data.path(), host).value();
  CHECK(ruleset(host) == "");
}
