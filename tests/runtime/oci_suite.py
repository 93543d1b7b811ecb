#!/usr/bin/env python3
"""Rules of the OCI runtime specification as TAP: oci_suite.py RUNTIME [WORD]

RUNTIME is any program with the command line of the common runtimes (orchestra-oci, crun, runc); WORD picks the
cases whose name has it. Each case is a sentence about what a user of a runtime can see. What a machine or a
runtime cannot do is a named skip. Nothing is left behind: every container is deleted, every cgroup removed.
"""
import array, json, os, re, shutil, signal, socket, struct, subprocess, sys, tempfile, time

RUNTIME = sys.argv[1]
WORD = sys.argv[2] if len(sys.argv) > 2 else ""
NAME = os.path.basename(RUNTIME)
WORK = tempfile.mkdtemp(prefix="orc-suite-")
MARK = "orcsuite%d" % os.getpid()
CASES = []


class Skip(Exception):
    pass


def case(function):
    CASES.append(function)
    return function


def root():
    path = WORK + "/rootfs"
    if not os.path.exists(path):
        for folder in ("bin", "proc", "dev", "sys", "tmp", "etc", "full", "mnt"):
            os.makedirs(path + "/" + folder)
        shutil.copy("/bin/busybox", path + "/bin/busybox")
        listed = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True).stdout.split()
        for word in listed:
            if word != "busybox":
                os.symlink("busybox", path + "/bin/" + word)
        open(path + "/etc/passwd", "w").write("root:x:0:0:root:/:/bin/sh\n")
        open(path + "/full/file", "w").write("from the image\n")
        os.symlink("file", path + "/full/link")
        os.chmod(WORK, 0o755)
    return path


def config(args, **linux):
    """A document that runs `args` (a shell line, or a list)."""
    root()
    spaces = [{"type": t} for t in ("pid", "mount", "ipc", "uts", "network")]
    caps = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_SETPCAP"]
    out = {
        "ociVersion": "1.0.2",
        "process": {
            "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"],
            "args": ["/bin/sh", "-c", args] if isinstance(args, str) else args,
            "capabilities": {k: caps for k in ("bounding", "effective", "permitted")},
        },
        "root": {"path": WORK + "/rootfs", "readonly": False},
        "hostname": "suite",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        ],
        "linux": {"namespaces": spaces, "cgroupsPath": "/%s/c" % MARK},
    }
    out["linux"].update(linux)
    return out


def runtime(*args, **options):
    return subprocess.run([RUNTIME, "--root", WORK + "/state", *args], capture_output=True, text=True,
                          timeout=30, **options)


def bundle(document):
    path = WORK + "/bundle"
    os.makedirs(path, exist_ok=True)
    json.dump(document, open(path + "/config.json", "w"))
    return path


def run(document, *options, **how):
    """Runs to the end; its output. A failure is told with what the runtime said."""
    done = runtime("run", "-b", bundle(document), *options, "c", **how)
    if done.returncode != 0:
        raise AssertionError("exit %d: %s%s" % (done.returncode, done.stdout, done.stderr))
    return done.stdout


def refused(document):
    done = runtime("run", "-b", bundle(document), "c")
    assert done.returncode != 0, "it ran: " + done.stdout
    return done.stderr


class Running:
    """A container that sleeps, for commands about it."""

    def __init__(self, document=None, start=True):
        document = document or config("sleep 100")
        # Output would keep our pipes open as long as it runs.
        with open(WORK + "/log", "w") as log:
            made = subprocess.run([RUNTIME, "--root", WORK + "/state", "create", "-b", bundle(document),
                                   "--pid-file", WORK + "/pid", "c"], stdin=subprocess.DEVNULL, stdout=log,
                                  stderr=log, timeout=30)
        assert made.returncode == 0, open(WORK + "/log").read()
        self.pid = int(open(WORK + "/pid").read())
        if start:
            started = runtime("start", "c")
            assert started.returncode == 0, started.stderr

    def __enter__(self):
        return self

    def __exit__(self, *ignored):
        runtime("delete", "--force", "c")

    def run(self, *args, **how):
        done = runtime("exec", *args, **how)
        assert done.returncode == 0, "exit %d: %s%s" % (done.returncode, done.stdout, done.stderr)
        return done.stdout


def same(found, wanted):
    assert found == wanted, "%r instead of %r" % (found, wanted)


def user_config(args, size=1000):
    document = config(args)
    document["linux"]["namespaces"].append({"type": "user"})
    document["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 200000, "size": size}]
    document["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 300000, "size": size}]
    return document


# --- namespaces ---------------------------------------------------------------------------------------

@case
def a_user_namespace_has_its_maps_and_root_inside_is_nobody_outside():
    with Running(user_config("sleep 100")) as c:
        same(open("/proc/%d/uid_map" % c.pid).read().split(), ["0", "200000", "1000"])
        same(open("/proc/%d/gid_map" % c.pid).read().split(), ["0", "300000", "1000"])
        same(os.stat("/proc/%d" % c.pid).st_uid, 200000)
        same(c.run("c", "id", "-u").strip(), "0")


@case
def a_user_namespace_container_has_device_nodes():
    same(run(user_config("echo gone > /dev/null && head -c 3 /dev/zero | wc -c && test -c /dev/urandom")).strip(), "3")


@case
def an_exec_into_a_user_namespace_takes_other_ids_of_it():
    with Running(user_config("sleep 100")) as c:
        same(c.run("--user", "7:8", "c", "sh", "-c", "id -u; id -g").split(), ["7", "8"])


@case
def a_time_namespace_shifts_the_clocks_by_its_offsets():
    document = config("cat /proc/uptime; cat /proc/self/timens_offsets")
    document["linux"]["namespaces"].append({"type": "time"})
    document["linux"]["timeOffsets"] = {"monotonic": {"secs": 172800, "nanosecs": 0},
                                        "boottime": {"secs": 864000, "nanosecs": 0}}
    out = run(document)
    uptime = float(out.split()[0])
    outside = float(open("/proc/uptime").read().split()[0])
    assert 863990 < uptime - outside < 864010, out


@case
def a_namespace_is_joined_by_path():
    with subprocess.Popen(["unshare", "--uts", "sleep", "100"]) as holder:
        try:
            time.sleep(0)
            path = "/proc/%d/ns/uts" % holder.pid
            while os.readlink(path) == os.readlink("/proc/self/ns/uts"):
                time.sleep(0.005)
            document = config("readlink /proc/self/ns/uts")
            del document["hostname"]
            document["linux"]["namespaces"] = [
                {"type": "uts", "path": path} if s["type"] == "uts" else s
                for s in document["linux"]["namespaces"]]
            same(run(document).strip(), os.readlink(path))
        finally:
            holder.kill()


@case
def a_path_of_another_namespace_type_is_an_error():
    document = config("true")
    document["linux"]["namespaces"] = [{"type": "uts", "path": "/proc/self/ns/net"} if s["type"] == "uts" else s
                                       for s in document["linux"]["namespaces"]]
    del document["hostname"]
    refused(document)


# --- mounts -------------------------------------------------------------------------------------------

def host_tree():
    path = WORK + "/tree"
    os.makedirs(path + "/inner", exist_ok=True)
    open(path + "/inner/file", "w").write("x\n")
    return path


@case
def rro_makes_mounts_below_read_only_too():
    tree = host_tree()
    subprocess.run(["mount", "-t", "tmpfs", "suite", tree + "/inner"], check=True)
    try:
        document = config("touch /mnt/inner/x 2>&1; grep -c ' /mnt.* ro' /proc/self/mountinfo")
        document["mounts"].append({"destination": "/mnt", "type": "bind", "source": tree, "options": ["rbind", "rro"]})
        out = run(document)
        assert "Read-only" in out and out.strip().endswith("2"), out
    finally:
        subprocess.run(["umount", tree + "/inner"], check=True)


@case
def plain_ro_leaves_the_mounts_below_as_they_are():
    tree = host_tree()
    subprocess.run(["mount", "-t", "tmpfs", "suite", tree + "/inner"], check=True)
    try:
        document = config("touch /mnt/x 2>&1; touch /mnt/inner/x && echo written")
        document["mounts"].append({"destination": "/mnt", "type": "bind", "source": tree, "options": ["rbind", "ro"]})
        out = run(document)
        assert "Read-only" in out and out.strip().endswith("written"), out
    finally:
        subprocess.run(["umount", tree + "/inner"], check=True)


@case
def an_id_mapped_mount_shows_other_owners():
    if NAME == "runc":
        raise Skip("runc 1.1 has no id-mapped mounts outside of user namespaces")
    path = WORK + "/owned"
    os.makedirs(path, exist_ok=True)
    open(path + "/file", "w").close()
    os.chown(path + "/file", 1000, 1001)
    document = config("stat -c '%u %g' /mnt/file")
    document["mounts"].append({"destination": "/mnt", "type": "bind", "source": path, "options": ["bind", "idmap"],
                               "uidMappings": [{"containerID": 1000, "hostID": 5, "size": 1}],
                               "gidMappings": [{"containerID": 1001, "hostID": 6, "size": 1}]})
    if NAME == "crun":
        raise Skip("crun 1.8 reads the two sides of an id-mapped mount the other way round")
    same(run(document).split(), ["5", "6"])


@case
def an_id_mapped_mount_takes_the_maps_of_the_user_namespace():
    if NAME in ("runc", "crun"):
        raise Skip(NAME + " of Debian 12 has another form of idmap")
    path = WORK + "/mapped"
    os.makedirs(path, exist_ok=True)
    open(path + "/file", "w").close()
    os.chown(path + "/file", 0, 0)
    document = user_config("stat -c '%u %g' /mnt/file")
    document["mounts"].append({"destination": "/mnt", "type": "bind", "source": path, "options": ["bind", "idmap"]})
    same(run(document).split(), ["0", "0"])


@case
def tmpcopyup_begins_a_tmpfs_with_what_the_image_has():
    document = config("cat /full/file; readlink /full/link; echo more > /full/new; stat -f -c %T /full")
    document["mounts"].append({"destination": "/full", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]})
    same(run(document).split("\n")[:3], ["from the image", "file", "tmpfs"])
    assert not os.path.exists(WORK + "/rootfs/full/new")


@case
def nosymfollow_and_noexec_are_options_of_a_bind():
    tree = host_tree()
    document = config("grep ' /mnt ' /proc/self/mountinfo")
    document["mounts"].append({"destination": "/mnt", "type": "bind", "source": tree,
                               "options": ["bind", "noexec", "nosymfollow", "nodev"]})
    if NAME == "runc":
        raise Skip("runc 1.1 does not know nosymfollow")
    out = run(document)
    for word in ("noexec", "nosymfollow", "nodev"):
        assert word in out, out


@case
def masked_and_read_only_paths_are_so_and_missing_ones_are_skipped():
    document = config("cat /proc/kcore | wc -c; ls /proc/scsi | wc -l; touch /proc/sys/x 2>&1; true")
    document["linux"]["maskedPaths"] = ["/proc/kcore", "/proc/scsi", "/no/such"]
    document["linux"]["readonlyPaths"] = ["/proc/sys", "/no/such"]
    out = run(document)
    same(out.split("\n")[0].strip(), "0")
    assert "Read-only" in out or "No such" in out, out


@case
def the_root_has_the_propagation_that_is_asked_for_and_the_machine_sees_no_mount():
    for asked, field in (("shared", "shared:"), ("slave", "master:"), ("private", None), ("unbindable", "unbindable")):
        document = config("head -n 1 /proc/self/mountinfo; mkdir -p /tmp/x; mount -t tmpfs inside_the_root /tmp/x && echo mounted")
        document["linux"]["rootfsPropagation"] = asked
        document["process"]["capabilities"] = {kind: ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"] for kind in ("bounding", "effective", "permitted")}
        out = run(document)
        own = out.split("\n")[0].split(" - ")[0].split(" ")[6:]
        if asked == "slave":
            continue  # a master shows only where the machine's mount is shared
        if field is None:
            assert not own, f"{asked}: {out}"
        else:
            assert any(one.startswith(field) for one in own), f"{asked}: {out}"
        assert "mounted" in out, out
        assert "inside_the_root" not in open("/proc/self/mountinfo").read(), asked


@case
def what_is_no_flag_of_a_bind_is_data_that_nobody_looks_at():
    document = config("cat /mnt/data/file")
    tree = host_tree()
    document["mounts"].append({"destination": "/mnt/data", "source": tree, "options": ["rbind", "mode=755", "size=1k"]})
    open(os.path.join(tree, "file"), "w").write("seen")
    same(run(document), "seen")


@case
def a_relative_cwd_or_a_relative_hook_is_refused():
    document = config("true")
    document["process"]["cwd"] = "relative"
    assert "cwd" in refused(document)


# --- the process --------------------------------------------------------------------------------------

@case
def the_scheduler_of_the_process_is_set():
    document = config("cat /proc/self/stat | cut -d' ' -f41,19")
    document["process"]["scheduler"] = {"policy": "SCHED_BATCH", "nice": 7}
    if NAME != "orchestra-oci":
        raise Skip(NAME + " of Debian 12 does not read process.scheduler")
    same(run(document).split(), ["7", "3"])


@case
def the_io_priority_of_the_process_is_set():
    if NAME != "orchestra-oci":
        raise Skip(NAME + " of Debian 12 does not read process.ioPriority")
    document = config("ionice -p 1")
    document["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    same(run(document).strip(), "best-effort: prio 6")


@case
def personality_LINUX32_changes_what_uname_says():
    document = config("uname -m")
    document["linux"]["personality"] = {"domain": "LINUX32"}
    same(run(document).strip(), "i686")


@case
def a_memory_policy_is_in_force():
    if NAME != "orchestra-oci":
        raise Skip(NAME + " of Debian 12 does not read linux.memoryPolicy")
    document = config("cat /proc/self/numa_maps | head -1")
    document["linux"]["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0"}
    if not os.path.exists("/proc/self/numa_maps"):
        raise Skip("this kernel has no NUMA")
    assert " bind:0" in run(document)


@case
def cpu_affinity_of_an_exec_is_its_final_one():
    if NAME != "orchestra-oci":
        raise Skip(NAME + " of Debian 12 does not read process.execCPUAffinity")
    document = config("sleep 100")
    document["process"]["execCPUAffinity"] = {"initial": "0", "final": "0"}
    with Running(document) as c:
        same(c.run("c", "sh", "-c", "grep Cpus_allowed_list /proc/self/status").split()[1], "0")
        same(open("/proc/%d/status" % c.pid).read().split("Cpus_allowed_list:")[1].split()[0],
             open("/proc/self/status").read().split("Cpus_allowed_list:")[1].split()[0])


@case
def preserved_descriptors_reach_the_program():
    done = subprocess.run(
        ["/bin/sh", "-c", "exec 3</etc/passwd 4</etc/hostname; exec \"$@\"", "sh", RUNTIME, "--root", WORK + "/state",
         "run", "--preserve-fds", "2", "-b", bundle(config("head -c 5 <&3; ls /proc/self/fd | wc -l")), "c"],
        capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("root:"), done.stdout


@case
def without_preserve_fds_nothing_of_the_caller_leaks_in():
    done = subprocess.run(
        ["/bin/sh", "-c", "exec 3</etc/passwd 9</etc/hostname; exec \"$@\"", "sh", RUNTIME, "--root", WORK + "/state",
         "run", "-b", bundle(config(["/bin/ls", "/proc/self/fd"])), "c"],
        capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    same(done.stdout.split(), ["0", "1", "2", "3"])  # 3 is the folder itself


@case
def LISTEN_FDS_are_handed_over_with_pid_1():
    done = subprocess.run(
        ["/bin/sh", "-c", "exec 3</etc/passwd; LISTEN_FDS=1 exec \"$@\"", "sh", RUNTIME, "--root", WORK + "/state",
         "run", "-b", bundle(config("echo $LISTEN_FDS $LISTEN_PID; head -c 4 <&3")), "c"],
        capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    same(done.stdout, "1 1\nroot")


@case
def rlimits_are_set_and_a_soft_one_above_the_hard_one_is_refused():
    document = config("ulimit -n; ulimit -Hn")
    document["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    same(run(document).split(), ["100", "200"])
    document["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 300, "hard": 200}]
    refused(document)


@case
def oom_score_adj_is_set_and_inherited_when_absent():
    document = config("cat /proc/self/oom_score_adj")
    document["process"]["oomScoreAdj"] = 123
    same(run(document).strip(), "123")


@case
def the_exit_status_is_that_of_the_program_or_128_plus_its_signal():
    for line, code in (("exit 7", 7), ("sh -c 'kill -9 $$'; exit $?", 137)):
        same(runtime("run", "-b", bundle(config(line)), "c").returncode, code)


@case
def a_program_that_is_not_there_is_told_in_the_words_callers_match():
    assert "executable file" in refused(config(["no-such-program"])) and "not found" in refused(config(["no-such-program"]))
    assert "o such file" in refused(config(["/no/such"]))
    assert "ermission denied" in refused(config(["/etc/passwd"]))


# --- cgroups ------------------------------------------------------------------------------------------

def group_file(controller, v1, v2):
    """The path of a limit of container c, wherever its controller is."""
    for line in open("/proc/self/mountinfo"):
        words = line.split()
        dash = words.index("-")
        if words[dash + 1] == "cgroup" and controller in words[dash + 3].split(","):
            return "%s/%s/c/%s" % (words[4], MARK, v1)
    for line in open("/proc/self/mountinfo"):
        words = line.split()
        dash = words.index("-")
        if words[dash + 1] == "cgroup2" and controller in open(words[4] + "/cgroup.controllers").read().split():
            return "%s/%s/c/%s" % (words[4], MARK, v2)
    raise Skip("no cgroup controller " + controller)


def read(path):
    return open(path).read().strip()


@case
def update_changes_limits_of_a_running_container():
    with Running() as c:
        done = runtime("update", "--memory", "50M" if NAME != "crun" else "52428800", "--pids-limit", "33",
                       "--cpu-quota", "20000", "--cpu-period", "50000", "--cpu-share", "512", "c")
        assert done.returncode == 0, done.stderr
        same(read(group_file("memory", "memory.limit_in_bytes", "memory.max")), "52428800")
        same(read(group_file("pids", "pids.max", "pids.max")), "33")
        quota = group_file("cpu", "cpu.cfs_quota_us", "cpu.max")
        assert read(quota).split()[0] == "20000", read(quota)


@case
def update_reads_resources_from_a_file_and_from_stdin():
    with Running() as c:
        open(WORK + "/resources.json", "w").write('{"pids":{"limit":44}}')
        done = runtime("update", "-r", WORK + "/resources.json", "c")
        assert done.returncode == 0, done.stderr
        same(read(group_file("pids", "pids.max", "pids.max")), "44")
        done = runtime("update", "-r", "-", "c", input='{"pids":{"limit":55}}')
        assert done.returncode == 0, done.stderr
        same(read(group_file("pids", "pids.max", "pids.max")), "55")


@case
def update_of_a_quota_above_and_below_the_period_works_in_either_order():
    with Running() as c:
        for quota, period in ((200000, 100000), (2000, 1000), (900000, 1000000)):
            done = runtime("update", "--cpu-quota", str(quota), "--cpu-period", str(period), "c")
            assert done.returncode == 0, "%d/%d: %s" % (quota, period, done.stderr)


@case
def update_refuses_nonsense_and_a_container_that_is_not_there():
    with Running():
        assert runtime("update", "--memory", "lots", "c").returncode != 0
    assert runtime("update", "--memory", "1000000", "nobody").returncode != 0


@case
def a_cpuset_of_the_configuration_holds():
    document = config("grep Cpus_allowed_list /proc/self/status")
    document["linux"]["resources"] = {"cpu": {"cpus": "0"}}
    group_file("cpuset", "", "")
    same(run(document).split()[1], "0")


@case
def events_stats_are_the_JSON_that_callers_read():
    with Running() as c:
        if NAME == "crun":
            raise Skip("crun has no events")
        done = runtime("events", "--stats", "c")
        assert done.returncode == 0, done.stderr
        event = json.loads(done.stdout)
        same((event["type"], event["id"]), ("stats", "c"))
        assert event["data"]["cpu"]["usage"]["total"] > 0
        assert event["data"]["memory"]["usage"]["usage"] > 0
        assert event["data"]["pids"]["current"] == 1


@case
def events_tell_an_OOM_kill_and_end_with_the_container():
    if NAME != "orchestra-oci":
        raise Skip("only cross-checked in form")
    document = config("sleep 1000 & dd if=/dev/zero of=/dev/null bs=200M count=1; sleep 0.5")
    document["linux"]["resources"] = {"memory": {"limit": 20 << 20}}
    with Running(document, start=False) as c:
        watching = subprocess.Popen([RUNTIME, "--root", WORK + "/state", "events", "--interval", "1s", "c"],
                                    stdout=subprocess.PIPE, text=True)
        watching.stdout.readline()  # it watches now
        assert runtime("start", "c").returncode == 0
        rest = watching.communicate(timeout=20)[0]
        assert any(json.loads(line)["type"] == "oom" for line in rest.splitlines()), rest


@case
def pause_stops_it_and_resume_lets_it_go_on():
    with Running(config("while true; do echo x > /tmp/beat; done")) as c:
        assert runtime("pause", "c").returncode == 0
        same(json.loads(runtime("state", "c").stdout)["status"], "paused")
        assert runtime("exec", "c", "true").returncode != 0
        assert runtime("resume", "c").returncode == 0
        same(json.loads(runtime("state", "c").stdout)["status"], "running")


# --- seccomp ------------------------------------------------------------------------------------------

@case
def a_seccomp_rule_answers_with_its_errno():
    document = config("mkdir /tmp/x 2>&1; true")
    document["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                                    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO",
                                                  "errnoRet": 28}]}
    if os.uname().machine != "x86_64":
        raise Skip("the profile is for x86_64")
    assert "No space left" in run(document)


@case
def a_seccomp_listener_gets_one_message_with_its_descriptor():
    if NAME == "runc":
        raise Skip("runc 1.1 sends it at another moment")
    path = WORK + "/agent.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(4)
    listener.settimeout(10)
    document = config("mkdir /tmp/made-by-agent; echo $?")
    document["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
                                    "listenerMetadata": "hello",
                                    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]}
    running = subprocess.Popen([RUNTIME, "--root", WORK + "/state", "run", "-b", bundle(document), "c"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        connection = listener.accept()[0]
        connection.settimeout(10)
        text, control, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(4))
        message = json.loads(text)
        same(message["fds"], ["seccompFd"])
        same(message["metadata"], "hello")
        same(message["state"]["id"], "c")
        assert os.path.exists("/proc/%d" % message["pid"])
        fd = struct.unpack("i", control[0][2][:4])[0]
        connection.settimeout(10)
        import fcntl, select
        # struct seccomp_notif is 80 bytes, the answer 24: id, value, error, flags (1 = go on).
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(10000), "nothing was asked"
        asked = bytearray(80)
        fcntl.ioctl(fd, 0xC0502100, asked)
        fcntl.ioctl(fd, 0xC0182101, bytearray(struct.pack("=QqiI", struct.unpack_from("=Q", asked)[0], 0, -17, 0)))
        os.close(fd)
        out, err = running.communicate(timeout=20)
        same(out.strip(), "1")
        assert "File exists" in err, err
    finally:
        running.kill()
        listener.close()
        os.unlink(path)


# --- network devices ------------------------------------------------------------------------------------

def in_a_network(script):
    """Runs a shell script in a network namespace of its own; $RUN is this runtime with its bundle."""
    done = subprocess.run(["unshare", "--net", "sh", "-ec", script], capture_output=True, text=True, timeout=30,
                          env=dict(os.environ, RUN="%s --root %s/state run -b %s/bundle c" % (RUNTIME, WORK, WORK)))
    return done


@case
def a_network_device_moves_in_with_its_name_and_addresses():
    if NAME not in ("orchestra-oci", "orchestra"):
        raise Skip("linux.netDevices is of runtime-spec 1.3")
    document = config("ip -o addr show; ip -o link show")
    document["linux"]["netDevices"] = {"orc-a": {"name": "eth7"}, "orc-b": {"name": "eth%d"}, "orc-c": {}}
    bundle(document)
    done = in_a_network(
        "for d in a b c; do ip link add orc-$d type veth peer name orc-$d-peer; done\n"
        "ip addr add 192.0.2.7/24 dev orc-a; ip addr add 2001:db8::7/64 dev orc-a nodad\n"
        "ip addr add 192.0.2.8/25 dev orc-b; ip link set orc-a up\n"
        "$RUN; ip -o link show")
    assert done.returncode == 0, done.stderr
    inside, outside = done.stdout[:done.stdout.rindex("1: lo:")], done.stdout[done.stdout.rindex("1: lo:"):]
    for wanted in ("eth7    inet 192.0.2.7/24", "eth7    inet6 2001:db8::7/64", "eth0    inet 192.0.2.8/25", "orc-c@"):
        assert wanted in inside, "no %r in %s" % (wanted, inside)
    for name in ("eth7", "eth0", "orc-c"):
        assert re.search(r" %s@\S+ <[^>]*\bUP\b" % name, inside), inside
    assert "orc-a@" not in outside and "orc-b@" not in outside, outside


@case
def a_network_device_that_is_not_there_or_whose_name_is_taken_is_an_error_that_names_it():
    if NAME not in ("orchestra-oci", "orchestra"):
        raise Skip("linux.netDevices is of runtime-spec 1.3")
    document = config("true")
    document["linux"]["netDevices"] = {"orc-none": {}}
    said = refused(document)
    assert "linux.netDevices.orc-none: this network namespace has no device of that name" in said, said
    document["linux"]["netDevices"] = {"orc-a": {"name": "lo"}}
    bundle(document)
    done = in_a_network("ip link add orc-a type veth peer name orc-b; ip addr add 192.0.2.7/24 dev orc-a; $RUN")
    assert done.returncode != 0 and "linux.netDevices.orc-a" in done.stderr, done.stderr
    document["linux"]["namespaces"] = [s for s in document["linux"]["namespaces"] if s["type"] != "network"]
    said = refused(document)
    assert "needs a network namespace" in said, said


# --- hooks --------------------------------------------------------------------------------------------

@case
def hooks_run_in_their_order_with_the_state_on_stdin():
    log = WORK + "/hooks"
    open(log, "w").close()
    hook = lambda name: {"path": "/bin/sh", "args": ["sh", "-c", "echo %s >> %s; cat >> %s; echo >> %s" % (name, log, log, log)],
                         "env": ["PATH=/bin:/usr/bin"]}
    document = config("true")
    document["hooks"] = {k: [hook(k)] for k in ("prestart", "createRuntime", "createContainer", "poststart", "poststop")}
    run(document)
    lines = open(log).read().split("\n")
    same(lines[0::2][:5], ["prestart", "createRuntime", "createContainer", "poststart", "poststop"])
    status = [json.loads(line)["status"] for line in lines[1::2][:5]]
    same(status[-1], "stopped")
    assert status[3] == "running", status


@case
def a_failing_prestart_hook_fails_the_create_and_poststop_runs():
    mark = WORK + "/poststop-ran"
    document = config("true")
    document["hooks"] = {"prestart": [{"path": "/bin/false"}],
                         "poststop": [{"path": "/bin/sh", "args": ["sh", "-c", "touch " + mark], "env": ["PATH=/bin:/usr/bin"]}]}
    refused(document)
    if NAME == "orchestra-oci":
        assert os.path.exists(mark)


@case
def a_failing_poststart_hook_ends_the_container():
    if NAME != "orchestra-oci":
        raise Skip("a rule of runtime-spec 1.3")
    document = config("sleep 100")
    document["hooks"] = {"poststart": [{"path": "/bin/false"}]}
    with Running(document, start=False) as c:
        assert runtime("start", "c").returncode != 0
        end = time.time() + 10
        while json.loads(runtime("state", "c").stdout)["status"] != "stopped":
            assert time.time() < end, "it still runs"
            time.sleep(0.01)


# --- the command line ---------------------------------------------------------------------------------

@case
def list_and_ps_print_JSON():
    same(json.loads(runtime("list", "-f", "json").stdout or "[]") or [], [])
    with Running() as c:
        entry = json.loads(runtime("list", "-f", "json").stdout)[0]
        same((entry["id"], entry["status"], entry["pid"]), ("c", "running", c.pid))
        assert c.pid in json.loads(runtime("ps", "-f", "json", "c").stdout)


@case
def exec_takes_its_process_from_a_file():
    with Running() as c:
        process = {"cwd": "/tmp", "args": ["/bin/sh", "-c", "pwd; echo $A; id -u"], "env": ["PATH=/bin", "A=b"],
                   "user": {"uid": 5, "gid": 6}}
        json.dump(process, open(WORK + "/process.json", "w"))
        same(c.run("--process", WORK + "/process.json", "c").split(), ["/tmp", "b", "5"])


@case
def exec_takes_cwd_env_user_and_groups():
    with Running() as c:
        out = c.run("--cwd", "/tmp", "--env", "A=b", "--user", "5:6", "c", "/bin/sh", "-c", "pwd; echo $A; id -u; id -g")
        same(out.split(), ["/tmp", "b", "5", "6"])


@case
def a_pidfd_of_the_init_goes_to_the_socket():
    if NAME != "orchestra-oci":
        raise Skip(NAME + " of Debian 12 has no --pidfd-socket")
    path = WORK + "/pidfd.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    listener.settimeout(10)
    try:
        done = runtime("run", "--pidfd-socket", path, "-b", bundle(config("true")), "c")
        assert done.returncode == 0, done.stderr
        connection = listener.accept()[0]
        text, control, _, _ = connection.recvmsg(100, socket.CMSG_SPACE(4))
        fd = struct.unpack("i", control[0][2][:4])[0]
        assert "pidfd" in os.readlink("/proc/self/fd/%d" % fd), os.readlink("/proc/self/fd/%d" % fd)
        os.close(fd)
    finally:
        listener.close()
        os.unlink(path)


@case
def delete_regex_takes_all_that_match():
    if NAME == "runc":
        raise Skip("runc has no delete --regex")
    for name in ("gone1", "gone2", "stays"):
        document = config("sleep 100")
        document["linux"]["cgroupsPath"] = "/%s/%s" % (MARK, name)
        with open(WORK + "/log", "w") as log:
            assert subprocess.run([RUNTIME, "--root", WORK + "/state", "create", "-b", bundle(document), name],
                                  stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=30).returncode == 0
    try:
        assert runtime("delete", "--force", "--regex", "^gone").returncode == 0
        same(runtime("list", "-q").stdout.split(), ["stays"])
    finally:
        for name in ("gone1", "gone2", "stays"):
            runtime("delete", "--force", name)


@case
def errors_go_to_the_log_as_JSON():
    log = WORK + "/error.log"
    open(log, "w").close()
    subprocess.run([RUNTIME, "--root", WORK + "/state", "--log", log, "--log-format", "json", "start", "nobody"],
                   capture_output=True, timeout=30)
    line = json.loads(open(log).read().strip().split("\n")[-1])
    same(line["level"], "error")
    assert "does not exist" in line["msg"], line


@case
def features_is_a_document_about_this_runtime():
    if NAME == "crun":
        raise Skip("crun 1.8 has no features")
    features = json.loads(runtime("features").stdout)
    assert features["ociVersionMin"].startswith("1.0")
    assert "CAP_SYS_ADMIN" in features["linux"]["capabilities"]
    for word in ("cgroup", "user", "pid"):
        assert word in features["linux"]["namespaces"]
    if NAME == "orchestra-oci":
        assert features["linux"]["mountExtensions"]["idmap"]["enabled"]
        assert "SCMP_ACT_NOTIFY" in features["linux"]["seccomp"]["actions"]
        assert "tmpcopyup" in features["mountOptions"]


@case
def a_spec_that_it_writes_runs():
    folder = WORK + "/fresh"
    os.makedirs(folder, exist_ok=True)
    done = subprocess.run([RUNTIME, "spec"], cwd=folder, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    document = json.load(open(folder + "/config.json"))
    document["process"]["terminal"] = False
    document["process"]["args"] = ["/bin/true"]
    document["root"]["path"] = root()
    run(document)


def main():
    if os.geteuid() != 0 or not os.path.exists("/bin/busybox"):
        print("1..0 # SKIP needs root and the Debian package busybox-static")
        return 0
    chosen = [c for c in CASES if WORD in c.__name__]
    print("1..%d" % len(chosen))
    failures = 0
    for number, function in enumerate(chosen, 1):
        name = function.__name__.replace("_", " ")
        try:
            function()
            print("ok %d %s" % (number, name), flush=True)
        except Skip as why:
            print("ok %d %s # SKIP %s" % (number, name, why), flush=True)
        except Exception as why:  # noqa: each case stands for itself
            failures += 1
            print("not ok %d %s\n# %s: %s" % (number, name, type(why).__name__, str(why).replace("\n", "\n# ")), flush=True)
        finally:
            runtime("delete", "--force", "c")
    left = []
    for folder, folders, _ in os.walk("/sys/fs/cgroup"):
        if MARK in folders and os.path.exists(folder + "/cgroup.procs"):
            group = folder + "/" + MARK
            left += [group + "/" + inner for inner in os.listdir(group) if os.path.isdir(group + "/" + inner)]
            try:
                os.rmdir(group)
            except OSError:
                pass
        if folder.count("/") >= 5:
            folders.clear()
    for group in left:
        failures += 1
        print("not ok left behind: " + group)
    shutil.rmtree(WORK, ignore_errors=True)
    return 1 if failures else 0


sys.exit(main())
