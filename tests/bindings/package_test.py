"""The Python package against the built library; run by tests/e2e/python.sh. Needs no root, and loopback only."""

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import unittest

import orchestra

PATIENCE = 30.0  # seconds; only a failing test waits that long


def config_map(name="settings", **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": "web"}}, "data": data}


class StoreTest(unittest.TestCase):
    def setUp(self):
        self.engine = orchestra.Engine()
        self.addCleanup(self.engine.close)
        self.store = orchestra.MemoryStore(self.engine)

    def test_put_get_conflict_remove(self):
        first = self.store.put("/a", b"one\0two", if_mod_revision=0)
        self.assertEqual(self.store.get_with_revision("/a"), (b"one\0two", first))
        with self.assertRaises(orchestra.Conflict) as caught:
            self.store.put("/a", "again", if_mod_revision=0)
        self.assertEqual(caught.exception.code, orchestra.Code.CONFLICT)
        self.assertGreater(self.store.put("/a", "", if_mod_revision=first), first)
        self.assertEqual(self.store.get("/a"), b"")
        self.assertTrue(self.store.remove("/a"))
        self.assertFalse(self.store.remove("/a"))
        with self.assertRaisesRegex(orchestra.NotFound, "/a"):
            self.store.get("/a")

    def test_range_is_ordered_and_limited(self):
        for key in ("/p/b", "/p/a", "/q"):
            self.store.put(key, key)
        self.assertEqual([item[:2] for item in self.store.range("/p/")], [(b"/p/a", b"/p/a"), (b"/p/b", b"/p/b")])
        self.assertEqual(len(self.store.range("/p/", limit=1)), 1)

    def test_watch_tells_changes_in_order(self):
        with self.store.watch("/w/", timeout=PATIENCE) as watch:
            with self.assertRaises(orchestra.DeadlineExceeded):
                watch.next(0)
            revision = self.store.put("/w/a", "1")
            self.store.put("/other", "1")
            self.store.remove("/w/a")
            self.assertEqual(next(watch), orchestra.StoreEvent(False, b"/w/a", b"1", revision))
            self.assertTrue(next(watch).removed)
        with self.store.watch("/w/", after=revision - 1, timeout=PATIENCE) as watch:
            self.assertEqual(next(watch).revision, revision)

    def test_a_folder_has_one_owner(self):
        with tempfile.TemporaryDirectory() as folder:
            with orchestra.RaftStore(self.engine, folder) as store:
                store.put("kept", "yes")
                with self.assertRaisesRegex(orchestra.Busy, str(os.getpid())):
                    orchestra.RaftStore(self.engine, folder)
            with orchestra.RaftStore(self.engine, folder) as store:
                self.assertEqual(store.get("kept"), b"yes")

    def test_closing_the_engine_closes_what_was_made_with_it(self):
        self.engine.close()
        with self.assertRaisesRegex(orchestra.Invalid, "MemoryStore is closed"):
            self.store.get("a")


class StoreTxnTest(unittest.TestCase):
    def test_a_transaction_with_a_lease(self):
        with orchestra.Engine() as engine, orchestra.MemoryStore(engine) as store:
            lease = store.grant_lease(3600)
            first = store.txn(f"if missing a\nput a one lease={lease}\nput b two\n")
            self.assertTrue(first["succeeded"])
            second = store.txn("if missing a\nput a other\nelse\nget a\n")
            self.assertFalse(second["succeeded"])
            self.assertEqual([(kv["key"], kv["value"]) for kv in second["ops"][0]["kvs"]], [(b"a", b"one")])
            third = store.txn("txn\nif missing a\nput c x\nelse\nget b\nend\n")
            self.assertTrue(third["succeeded"])
            self.assertFalse(third["ops"][0]["succeeded"])
            self.assertEqual(third["ops"][0]["ops"][0]["kvs"][0]["value"], b"two")
            store.keep_lease_alive(lease)
            store.revoke_lease(lease)
            self.assertEqual([key for key, _value, _revision in store.range()], [b"b"])
            with self.assertRaisesRegex(orchestra.Invalid, "line 2") as caught:
                store.txn("put a b\nput c\n")
            self.assertEqual(caught.exception.retry_after, 0)
            with self.assertRaises(orchestra.NotFound):
                store.revoke_lease(lease)


class ApiTest(unittest.TestCase):
    def setUp(self):
        self.engine = orchestra.Engine()
        self.addCleanup(self.engine.close)
        self.server = orchestra.ApiServer(self.engine, orchestra.MemoryStore(self.engine)).start()
        self.client = self.server.client()

    def test_create_get_list_patch_update_delete(self):
        made = self.client.create(config_map(a="1"))
        self.assertEqual(made["metadata"]["namespace"], "default")
        self.assertEqual(self.client.get("v1", "configmaps", "settings", "default"), made)
        listed = self.client.list("v1", "configmaps", "default", labels="app=web")
        self.assertEqual([one["metadata"]["name"] for one in listed["items"]], ["settings"])
        self.assertEqual(self.client.list("v1", "configmaps", "default", labels="app=db")["items"], [])
        patched = self.client.patch("v1", "configmaps", "settings", {"data": {"b": "2"}}, "default")
        self.assertEqual(patched["data"], {"a": "1", "b": "2"})
        steps = [{"op": "remove", "path": "/data/a"}]
        patched = self.client.patch("v1", "configmaps", "settings", steps, "default", type="json")
        self.assertEqual(patched["data"], {"b": "2"})
        self.assertEqual(self.client.update(config_map(c="3"))["data"], {"c": "3"})
        self.client.delete("v1", "configmaps", "settings", "default")
        with self.assertRaises(orchestra.NotFound):
            self.client.get("v1", "configmaps", "settings", "default")

    def test_errors_are_named_and_carry_the_status(self):
        with self.assertRaises(orchestra.NotFound) as missing:
            self.client.get("v1", "configmaps", "nothing", "default")
        self.assertEqual((missing.exception.http_code, missing.exception.reason), (404, "NotFound"))
        self.assertEqual(missing.exception.status["details"]["name"], "nothing")
        made = self.client.create(config_map())
        with self.assertRaises(orchestra.AlreadyExists):
            self.client.create(config_map())
        self.client.patch("v1", "configmaps", "settings", {"data": {"b": "2"}}, "default")
        with self.assertRaises(orchestra.Conflict):
            self.client.update(made)
        with self.assertRaises(orchestra.Invalid) as refused:
            self.client.create(config_map("Not A Name"))
        self.assertEqual(refused.exception.http_code, 422)
        self.assertEqual(refused.exception.causes[0]["field"], "metadata.name")
        with self.assertRaisesRegex(orchestra.Invalid, "there are merge, json"):
            self.client.patch("v1", "configmaps", "settings", {}, "default", type="other")

    def test_apply_of_a_text_counts_its_documents(self):
        manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {a: '%s'}\n"
        self.assertEqual(self.client.apply(manifest % ("m", 1)), 1)
        self.assertEqual(self.client.apply(manifest % ("m", 2) + "---\n" + manifest % ("other", 1)), 2)
        self.assertEqual(self.client.get("v1", "configmaps", "m", "default")["data"], {"a": "2"})

    def test_apply_is_server_side(self):
        made = self.client.apply(config_map(a="1", b="1"), manager="me")
        self.assertEqual(made["data"], {"a": "1", "b": "1"})
        # What a manager does not name any more goes; a merge patch would have kept it.
        self.assertEqual(self.client.apply(config_map(a="1"), manager="me")["data"], {"a": "1"})
        with self.assertRaisesRegex(orchestra.Conflict, 'conflict with "me"') as caught:
            self.client.apply(config_map(a="2"), manager="you")
        self.assertEqual(caught.exception.causes[0]["field"], ".data.a")
        self.assertEqual(self.client.apply(config_map(a="2"), manager="you", force=True, dry_run=True)["data"], {"a": "2"})
        self.assertEqual(self.client.get("v1", "configmaps", "settings", "default")["data"], {"a": "1"})
        self.assertEqual(self.client.apply(config_map(a="2"), manager="you", force=True)["data"], {"a": "2"})
        with self.assertRaisesRegex(orchestra.Invalid, "manager"):
            self.client.apply(config_map(), manager="")

    def test_an_informer_is_a_current_copy(self):
        self.client.create(config_map(a="1"))
        with self.client.informer("v1", "configmaps", "default", labels="app=web", timeout=PATIENCE) as maps:
            maps.wait_synced(PATIENCE)
            event = next(maps)
            self.assertEqual((event["type"], event["object"]["metadata"]["name"], "old" in event), ("ADDED", "settings", False))
            changed = self.client.patch("v1", "configmaps", "settings", {"data": {"a": "2"}}, "default")
            maps.wait_for(changed["metadata"]["resourceVersion"], PATIENCE)
            self.assertEqual(maps.get("settings", "default"), changed)
            self.assertEqual([one["data"] for one in maps.list(labels="app=web")], [{"a": "2"}])
            self.assertEqual(maps.list("kube-system"), [])
            self.assertEqual(maps.find("owner", "nobody"), [])
            event = next(maps)
            self.assertEqual((event["type"], event["old"]["data"], event["object"]["data"]), ("MODIFIED", {"a": "1"}, {"a": "2"}))
            maps.resync()
            event = next(maps)
            self.assertEqual((event["type"], event["old"]), ("MODIFIED", event["object"]))
            self.client.delete("v1", "configmaps", "settings", "default")
            self.assertEqual(next(maps)["type"], "DELETED")
            with self.assertRaises(orchestra.NotFound):
                maps.get("settings", "default")
            self.assertEqual(maps.last_error, "")

    def test_an_informer_with_async_for(self):
        async def collect():
            types = []
            asyncio.get_running_loop().call_later(0.01, self.client.create, config_map())
            async for event in self.client.informer("v1", "configmaps", "default", labels="app=web", timeout=PATIENCE):
                types.append(event["type"])
                if event["type"] == "DELETED":
                    break
                self.client.delete("v1", "configmaps", "settings", "default")
            return types

        self.assertEqual(asyncio.run(collect()), ["ADDED", "DELETED"])

    def test_watch_with_for(self):
        self.client.create(config_map())
        types = []
        for event in self.client.watch("v1", "configmaps", "default", labels="app=web", timeout=PATIENCE):
            types.append((event["type"], event["object"]["metadata"]["name"]))
            if event["type"] == "DELETED":
                break
            self.client.delete("v1", "configmaps", "settings", "default")
        self.assertEqual(types, [("ADDED", "settings"), ("DELETED", "settings")])

    def test_watch_with_async_for(self):
        async def collect():
            types = []
            asyncio.get_running_loop().call_later(0.01, self.client.create, config_map())
            async for event in self.client.watch("v1", "configmaps", "default", labels="app=web", timeout=PATIENCE):
                types.append(event["type"])
                if event["type"] == "DELETED":
                    break
                self.client.delete("v1", "configmaps", "settings", "default")
            return types

        self.assertEqual(asyncio.run(collect()), ["ADDED", "DELETED"])

    def test_a_watch_ends_with_its_time(self):
        watch = self.client.watch("v1", "configmaps", "default", labels="app=none", timeout=0.05)
        self.assertEqual(list(watch), [])

        async def collect():
            return [event async for event in self.client.watch("v1", "secrets", "default", timeout=0.05)]

        self.assertEqual(asyncio.run(collect()), [])

    def test_close_ends_a_watch_that_waits_in_another_thread(self):
        watch = self.client.watch("v1", "configmaps", "default", labels="app=none")
        seen = []
        waiting = threading.Thread(target=lambda: seen.extend(watch), daemon=True)
        waiting.start()
        pause, tries = threading.Event(), 0
        while not watch._users and tries < 1000:  # it is inside next()
            pause.wait(0.005)
            tries += 1
        self.assertTrue(watch._users)
        watch.close()
        waiting.join(PATIENCE)
        self.assertFalse(waiting.is_alive())
        self.assertEqual(seen, [])
        self.assertEqual(watch.fileno(), -1)

    def test_many_threads_share_a_client(self):
        failures = []

        def work(number):
            try:
                for round in range(5):
                    name = f"c{number}-{round}"
                    self.client.create(config_map(name))
                    self.client.delete("v1", "configmaps", name, "default")
            except orchestra.OrchestraError as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])


@unittest.skipUnless(os.path.exists(os.environ.get("ORCHESTRA_TEST_COMPAT", "")), "test_compat, which serves the pods, is not built")
class StreamsTest(unittest.TestCase):
    """Over HTTPS, against the server for hands-on work of test_compat, whose pods are made up."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        environment = dict(os.environ, ORC_COMPAT_SERVE=folder.name)
        server = subprocess.Popen([os.environ["ORCHESTRA_TEST_COMPAT"], "-tc=a server for hands-on work*"], env=environment,
                                  stdout=subprocess.PIPE, text=True)
        cls.addClassCleanup(server.stdout.close)
        cls.addClassCleanup(server.wait, PATIENCE)
        cls.addClassCleanup(lambda: open(os.path.join(folder.name, "stop"), "w").close())
        while "127.0.0.1" not in server.stdout.readline():
            assert server.poll() is None
        cls.engine = orchestra.Engine()
        cls.addClassCleanup(cls.engine.close)
        cls.client = orchestra.Client.connect(cls.engine, os.path.join(folder.name, "admin.kubeconfig"))
        cls.client.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default"},
                           "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}})

    def test_logs(self):
        with self.client.logs("web", tail_lines=2) as log:
            self.assertEqual(b"".join(log), b"second line\nthird line\n")

        async def read():
            with self.client.logs("web") as log:
                return b"".join([piece async for piece in log])

        self.assertEqual(asyncio.run(read()), b"first line\nsecond line\nthird line\n")

    def test_exec_with_output_errors_and_exit_code(self):
        with self.client.exec("web", ["exit", "3"]) as process:
            self.assertEqual(process.communicate(), (b"", b"leaving with 3\n"))
            self.assertEqual(process.exit_code, 3)
        with self.client.exec("web", ["cat"], stdin=True) as process:
            self.assertEqual(process.communicate(b"in" * 300_000), (b"in" * 300_000, b""))
        with self.client.exec("web", ["size"], stdin=True, tty=True) as process:
            process.resize(100, 30)
            self.assertEqual(process.next(PATIENCE), (1, b"100x30\n"))
        with self.client.attach("web") as process:
            self.assertEqual(list(process), [(1, b"attached\n")])

    def test_port_forward(self):
        with self.client.port_forward("web", 80) as connection:
            connection.write("ping")
            self.assertEqual(connection.next(PATIENCE), b"echo: ping")
            connection.close_write()
            self.assertEqual(list(connection), [])
        with self.client.port_forward("web", 1) as connection:
            with self.assertRaisesRegex(orchestra.Unavailable, "nothing listens"):
                connection.next(PATIENCE)

    def test_refusals_are_named(self):
        with self.assertRaisesRegex(orchestra.NotFound, "none"):
            self.client.exec("none", ["echo"])
        with self.assertRaises(orchestra.NotFound):
            orchestra.Client.connect(self.engine, "/nonexistent")


class PackageTest(unittest.TestCase):
    def test_one_exception_per_code(self):
        from orchestra.errors import class_of

        for code in orchestra.Code:
            self.assertEqual(class_of(code).code, code)
            self.assertTrue(hasattr(orchestra, class_of(code).__name__))

    def test_wrong_options_are_refused(self):
        with self.assertRaisesRegex(orchestra.Invalid, '"preload" must be an array of strings'):
            orchestra.Cluster(preload="images")

    def test_a_cluster_starts_from_python_and_logs_to_the_sink(self):
        lines, logged = [], threading.Event()

        def sink(level, line):
            lines.append((level, line))
            logged.set()

        with tempfile.TemporaryDirectory() as folder:
            archive = os.path.join(folder, "bad.tar")
            with open(archive, "w") as file:
                file.write("not an image" * 100)
            options = {"isolation": "process", "memory_store": True, "serve_http": False, "ingress": "127.0.0.1:0"}
            with orchestra.Engine(log=sink) as engine:
                data_dir = os.path.join(folder, "data")
                with orchestra.Cluster(engine, data_dir=data_dir, preload=[archive], **options) as cluster:
                    self.assertEqual(cluster.info["isolation"], "process")
                    self.assertEqual(len(cluster.client().list("v1", "nodes")["items"]), 1)
                    self.assertIn("orchestra_net_syncs_total", cluster.metrics())
                    self.assertTrue(cluster.metrics("application/openmetrics-text").endswith("# EOF\n"))
                    self.assertTrue(logged.wait(PATIENCE))
                    cluster.down()
        self.assertTrue(any("bad.tar" in line and level == 2 for level, line in lines), lines)

    def test_a_script_that_closes_nothing_ends_by_itself(self):
        script = "import orchestra; e = orchestra.Engine(); s = orchestra.MemoryStore(e); s.put('a', 'b'); w = s.watch()"
        self.assertEqual(subprocess.run([sys.executable, "-c", script], timeout=PATIENCE).returncode, 0)

    def test_a_missing_library_is_told_with_the_remedy(self):
        environment = dict(os.environ, ORCHESTRA_LIBRARY="/nonexistent/liborchestra.so")
        run = subprocess.run([sys.executable, "-c", "import orchestra; orchestra.version()"], env=environment,
                             stderr=subprocess.PIPE, timeout=PATIENCE)
        self.assertIn(b"set ORCHESTRA_LIBRARY", run.stderr)


if __name__ == "__main__":
    program = unittest.main(exit=False)
    result = program.result
    bad = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - bad - len(result.skipped)} passed, {bad} failed, {len(result.skipped)} skipped", flush=True)
    sys.exit(1 if bad else 0)
