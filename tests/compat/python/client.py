"""The Debian client python3-kubernetes (22.6, models of API 1.22) against our server.

Run by tests/compat/python_test.cpp with KUBECONFIG set; prints one line for each check, and fails loudly.
"""
from kubernetes import client, config, dynamic, stream, watch
from kubernetes.client.rest import ApiException

config.load_kube_config()
core, apps, batch = client.CoreV1Api(), client.AppsV1Api(), client.BatchV1Api()

made = core.create_namespaced_config_map(
    "default", client.V1ConfigMap(metadata=client.V1ObjectMeta(name="a", labels={"x": "1"}), data={"k": "v"}))
assert made.metadata.uid and made.data == {"k": "v"}
print("typed create")

patched = core.patch_namespaced_config_map("a", "default", {"data": {"k": None, "n": "2"}})
assert patched.data == {"n": "2"}, patched.data
print("dict patch is a strategic merge")

try:
    core.read_namespaced_config_map("none", "default")
    raise SystemExit("no error for a missing object")
except ApiException as error:
    assert error.status == 404 and error.reason == "Not Found", error
print("typed error")

template = client.V1PodTemplateSpec(
    metadata=client.V1ObjectMeta(labels={"app": "w"}),
    spec=client.V1PodSpec(containers=[client.V1Container(name="main", image="web:v1")]))
apps.create_namespaced_deployment("default", client.V1Deployment(
    metadata=client.V1ObjectMeta(name="w"),
    spec=client.V1DeploymentSpec(
        selector=client.V1LabelSelector(match_labels={"app": "w"}), template=template)))
assert apps.read_namespaced_deployment_scale("w", "default").spec.replicas == 1
apps.patch_namespaced_deployment_scale("w", "default", {"spec": {"replicas": 3}})
assert apps.read_namespaced_deployment("w", "default").spec.replicas == 3
print("deployment and scale")

seen = []
for event in watch.Watch().stream(core.list_namespaced_config_map, "default", timeout_seconds=2,
                                  label_selector="x=1"):
    seen.append((event["type"], event["object"].metadata.name))
assert ("ADDED", "a") in seen, seen
print("watch")

pages, token = 0, None
while True:
    page = core.list_namespace(limit=2, _continue=token)
    pages += 1
    token = page.metadata._continue
    if not token:
        break
assert pages >= 2
print("pages")

dyn = dynamic.DynamicClient(client.ApiClient())
maps = dyn.resources.get(api_version="v1", kind="ConfigMap")
maps.create(namespace="default", body={"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d"}})
assert maps.get(name="d", namespace="default").metadata.name == "d"
maps.delete(name="d", namespace="default")
print("dynamic client")

core.create_namespaced_pod("default", client.V1Pod(
    metadata=client.V1ObjectMeta(name="p"),
    spec=client.V1PodSpec(node_name="n1", containers=[client.V1Container(name="c", image="i")])))
assert core.read_namespaced_pod_log("p", "default", tail_lines=1) == "third line\n"
run = dict(name="p", namespace="default", stderr=True, stdin=False, stdout=True, tty=False)
assert stream.stream(core.connect_get_namespaced_pod_exec, command=["echo", "two words"], **run) == "two words\n"
process = stream.stream(core.connect_get_namespaced_pod_exec, command=["exit", "3"], _preload_content=False, **run)
process.run_forever(timeout=20)
assert process.returncode == 3 and process.read_stderr() == "leaving with 3\n"
print("logs and exec over a WebSocket")

core.delete_collection_namespaced_config_map("default", label_selector="x=1")
assert [m.metadata.name for m in core.list_namespaced_config_map("default", label_selector="x=1").items] == []
print("delete collection")
