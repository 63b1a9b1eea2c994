"""Executors as users of their own: what a job can reach, and that all else works as ever. Needs root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cloudburst.worker import inside
from tests.wait import wait_until
from tests.worker import payload
from tests.worker.conftest import MiniStack

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0,
        reason="giving processes other users needs root, on Linux",
    ),
]

WORKER_UID = 10001
CAPABILITIES = ("setuid", "setgid", "setpcap", "kill", "chown", "dac_override", "fowner")
UIDS = range(20000, 20100)

JOBS = '''
import os, signal, subprocess, sys, time
from pathlib import Path

def attempt(what):
    try:
        return what()
    except OSError as error:
        return type(error).__name__

def describe(params):
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    Path("file").write_text("x")
    return {
        "uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(), "home": os.environ["HOME"],
        "caps": {name: status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")},
        "no_new_privs": status["NoNewPrivs"].strip(), "cwd": os.getcwd(),
        "mode": oct(os.stat(".").st_mode)[-3:], "file": oct(os.stat("file").st_mode)[-3:],
    }

def reach(params):
    worker = params["worker"]
    return {
        "environ": attempt(lambda: len(open("/proc/%d/environ" % worker, "rb").read())),
        "signal": attempt(lambda: os.kill(worker, signal.SIGTERM)),
        "secret": attempt(lambda: open(params["secret"]).read()),
        "state": attempt(lambda: os.listdir(params["state"])),
        "spool": attempt(lambda: os.listdir(params["state"] + "/spool")),
        "cache": attempt(lambda: os.listdir(params["state"] + "/environments/cache")),
        "other": attempt(lambda: os.listdir(params["other"])) if params.get("other") else None,
        "kill_other": attempt(lambda: os.kill(params["pid"], 0)) if params.get("pid") else None,
        "payload": attempt(lambda: Path(__file__).write_text("")),
        "payload_dir": attempt(lambda: Path(__file__).with_name("x").write_text("")),
        "environment": attempt(lambda: Path(sys.prefix, "x").write_text("")),
    }

def sit(params):
    Path("mine").write_text("private")
    Path(params["told"]).write_text("%s %d" % (os.getcwd(), os.getpid()))
    while True:
        time.sleep(0.05)

def leave(params):
    """Something that outlives the job, in a session of its own."""
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    Path(params["told"]).write_text(str(process.pid))
    if params.get("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return process.pid

def fail(params):
    os.mkdir("sub", 0o700)
    Path("sub/left").write_text("left")
    raise RuntimeError("failed")

def where(params):
    return {"uid": os.getuid(), "pid": os.getpid()}

def large(params):
    return len(params["text"])

def say(params):
    print("said")
    os.system("echo from a child >>/dev/stdout")
    raise ValueError("no")
'''


BACKEND = """
import os

def attempt(path):
    try:
        return "read " + path + ": " + str(len(open(path, "rb").read()))
    except OSError as error:
        return type(error).__name__ + " " + path

def build_wheel(directory, settings=None, metadata=None):
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    tried = [attempt(path) for path in (SECRET, "/proc/WORKER/environ", "/proc/WORKER/mem")]
    with open(TOLD, "w") as file:
        file.write("\\n".join(["caps " + status["CapEff"].strip(), *tried]))
    raise RuntimeError("that is all")

prepare_metadata_for_build_wheel = build_wheel
"""


class ConfinedStack(MiniStack):
    """Its workers are started as the image does it: root for a moment, then 10001 with some capabilities."""

    as_root = False

    def _process(self, module: str, environ: dict[str, str], log: str) -> subprocess.Popen[bytes]:
        if module != "cloudburst.worker":
            return super()._process(module, environ, log)
        secret = self.directory / "secret"
        caps = ",".join(f"+{name}" for name in CAPABILITIES)
        become = ["setpriv", f"--reuid={WORKER_UID}", f"--regid={WORKER_UID}", "--clear-groups"]
        become += [f"--inh-caps=-all,{caps}", f"--ambient-caps=-all,{caps}", "--"]
        argv = [*reaching(sys.base_prefix), *([] if self.as_root else become), sys.executable, "-m", module]
        # Root's: a worker that is not root may read it nevertheless, and nothing that it starts.
        secret.write_text(environ["FILE_HOST_TOKEN"])
        secret.chmod(0o400)
        settings = {
            "CLOUDBURST_EXECUTOR_UIDS": f"{UIDS[0]}-{UIDS[-1]}",
            "FILE_HOST_TOKEN": "",
            "FILE_HOST_TOKEN_FILE": str(secret),
        }
        state = Path(environ["CLOUDBURST_STATE_DIR"])
        state.mkdir(exist_ok=True)
        os.chown(state, 0 if self.as_root else WORKER_UID, -1)
        with (self.directory / f"{log}.log").open("ab") as file:
            process = subprocess.Popen(argv, env=os.environ | environ | settings, stdout=file, stderr=file)
        self.processes.append(process)
        return process


def reaching(path: str) -> list[str]:
    """The start of a command that may look at ``path`` though somebody's home is closed to others.

    In its own view of the file system, nothing but ``path`` is in that home.
    """
    closed = [parent for parent in Path(path).parents if not parent.stat().st_mode & 0o001]
    if not closed:
        return []
    script = (
        "set -e; home=$1 path=$2; shift 2; mount -t tmpfs -o mode=755 tmpfs /mnt; mkdir /mnt/kept;"
        'mount --bind "$path" /mnt/kept; mount -t tmpfs -o mode=755 tmpfs "$home"; mkdir -p "$path";'
        'mount --move /mnt/kept "$path"; umount /mnt; exec "$@"'
    )
    return ["unshare", "--mount", "sh", "-c", script, "sh", str(closed[-1]), path]


@pytest.fixture(scope="module", params=["as 10001", "as root"])
def stack(request: pytest.FixtureRequest) -> Iterator[MiniStack]:
    """In a directory that everybody may pass through, as a container's are; pytest's own is closed."""
    directory = Path(tempfile.mkdtemp(prefix="cloudburst-identities-"))
    directory.chmod(0o711)
    stack = ConfinedStack(directory)
    stack.as_root = request.param == "as root"
    payload.write(directory / "payload", {"jobs.py": JOBS})
    try:
        stack.start()
        stack.node = stack.worker(slots=2, state="state")
        yield stack
    finally:
        stack.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def told(stack: MiniStack) -> Path:
    """A file that any job may write."""
    path = Path(tempfile.mkstemp(dir=stack.directory)[1])
    path.chmod(0o666)
    return path


def test_each_executor_is_a_user_of_its_own_without_any_rights(stack: MiniStack) -> None:
    (record,) = stack.run("jobs.describe", {})

    found = record.value
    uid = found["uid"][0]
    assert uid in UIDS
    assert found["uid"] == found["gid"] == [uid] * 3
    assert found["groups"] == []
    assert set(found["caps"].values()) == {"0000000000000000"}
    assert found["no_new_privs"] == "1"
    assert (found["mode"], found["file"]) == ("700", "600")
    assert found["cwd"].startswith(found["home"])


def test_a_job_reaches_neither_the_worker_nor_other_jobs(stack: MiniStack, told: Path) -> None:
    # given: a job that runs in one slot
    sitting = stack.submit("jobs.sit", {"told": str(told)})
    wait_until(told.read_text, 60, "the job to tell where it is")
    other, pid = told.read_text().split()
    worker = stack.node.pid  # what starts it turns into it

    # when another tries to get at everything
    state = str(stack.directory / "state")
    (record,) = stack.run(
        "jobs.reach",
        {
            "worker": worker,
            "secret": str(stack.directory / "secret"),
            "state": state,
            "other": other,
            "pid": int(pid),
        },
    )
    stack.ensembles.cancel(sitting)

    # then it gets at nothing
    assert record.error == ""
    assert set(record.value.values()) == {"PermissionError"}
    assert stack.node.poll() is None


@pytest.mark.parametrize("crash", [False, True])
def test_what_a_job_leaves_behind_ends_with_it(stack: MiniStack, told: Path, crash: bool) -> None:
    ensemble = stack.submit("jobs.leave", {"told": str(told), "crash": crash}, max_attempts=1)
    stack.wait(ensemble)
    left = int(told.read_text())

    wait_until(lambda: not psutil.pid_exists(left) or is_gone(psutil.Process(left)), 10, "it to be gone")


def test_scratch_is_removed_or_kept_and_then_nobody_elses(stack: MiniStack) -> None:
    keeping = stack.directory / "keeping"
    payload.write(
        keeping, {"jobs.py": JOBS, "cloudburst.toml": "keep_failed_scratch = true\nmax_jobs_per_executor = 1"}
    )

    (record,) = stack.run("jobs.fail", {}, digest=stack.upload(keeping))
    (after,) = stack.run("jobs.where", {}, digest=stack.upload(keeping))

    kept = stack.directory / "state" / "kept" / f"{record.job_id}-1"
    assert record.error == "RuntimeError: failed"
    assert (kept / "sub" / "left").read_text() == "left"
    owner = 0 if stack.as_root else WORKER_UID
    wait_until(
        lambda: {path.stat().st_uid for path in [kept, *kept.rglob("*")]} == {owner},
        10,
        "it to be taken back",
    )
    slots = stack.directory / "state" / "slots"
    wait_until(lambda: len(list(slots.iterdir())) <= 3, 10, "scratch to be removed")
    assert after.value["uid"] in UIDS


def test_what_builds_run_reaches_no_secrets(stack: MiniStack, told: Path) -> None:
    if stack.as_root:
        pytest.skip("a worker that is root runs builds as root")
    building = stack.directory / "building"
    secret = str(stack.directory / "secret")
    backend = BACKEND.replace("SECRET", repr(secret)).replace("TOLD", repr(str(told)))
    backend = backend.replace("WORKER", str(stack.node.pid))
    project = (
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "levee"\nversion = "0.3"\n'
    )
    pipfile = '[packages]\nlevee = {path = "."}\n'
    payload.write(building, {"backend.py": backend, "pyproject.toml": project, "Pipfile": pipfile})

    ensemble = stack.submit("worker.add", {}, digest=stack.upload(building))
    stack.wait(ensemble)

    tried = (secret, f"/proc/{stack.node.pid}/environ", f"/proc/{stack.node.pid}/mem")
    refusals = [f"PermissionError {path}" for path in tried]
    assert told.read_text().splitlines() == ["caps 0000000000000000", *refusals]


def test_forked_jobs_work_and_die_with_their_executor(stack: MiniStack, told: Path) -> None:
    forking = stack.directory / "forking"
    payload.write(forking, {"jobs.py": JOBS, "cloudburst.toml": 'isolation = "fork"'})
    digest = stack.upload(forking)
    first, second = stack.run("jobs.where", {}, {}, digest=digest)
    assert first.value["pid"] != second.value["pid"]
    assert first.value["uid"] in UIDS

    ensemble = stack.submit("jobs.sit", {"told": str(told)}, digest=digest, max_attempts=1)
    wait_until(told.read_text, 60, "the job to tell where it is")
    child = psutil.Process(int(told.read_text().split()[1]))
    child.parent().send_signal(signal.SIGKILL)

    (record,) = stack.wait(ensemble)
    assert "SIGKILL" in record.error
    assert is_gone(child)


def test_large_descriptions_output_time_limits_and_memory_limits_work(stack: MiniStack) -> None:
    (large,) = stack.run("jobs.large", {"text": "x" * 200_000})
    assert large.value == 200_000

    ensemble = stack.submit("jobs.say", {})
    stack.wait(ensemble)
    assert stack.failure(ensemble).output == "said\nfrom a child\n"

    (late,) = stack.run("worker.hang", {}, timeout_s=1)
    assert "timeout" in late.error

    small = stack.directory / "small"
    payload.write(small, {"cloudburst.toml": "max_rss_mb = 100"})
    (much,) = stack.run("worker.fill_memory", {}, digest=stack.upload(small), max_attempts=1)
    assert "MiB of memory" in much.error


def test_executors_ahead_of_need_have_users_of_their_own(stack: MiniStack) -> None:
    preloading = stack.directory / "preloading"
    payload.write(preloading, {"jobs.py": JOBS, "cloudburst.toml": 'preload = ["json"]'})
    stack.run("jobs.where", {}, digest=stack.upload(preloading))

    def users() -> list[int]:
        return [process.uids()[0] for process in executors(stack.node.pid)]

    count = len(users())
    wait_until(lambda: len(users()) > count, 20, "one to stand in")
    assert len(set(users())) == len(users())
    assert set(users()) <= set(UIDS)


def test_a_killed_worker_takes_its_executors_with_it(stack: MiniStack, told: Path) -> None:
    node = stack.worker(state="second", CLOUDBURST_NODE="second")
    ensemble = stack.submit("jobs.sit", *[{"told": str(told)}] * 3)
    wait_until(lambda: len(executors(node.pid)) == 1, 30, "its executor to run")
    (executor,) = executors(node.pid)

    node.kill()

    wait_until(lambda: is_gone(executor), 5, "it to be gone")
    stack.ensembles.cancel(ensemble)


def test_a_worker_that_may_not_do_that_says_what_it_lacks(stack: MiniStack) -> None:
    done = subprocess.run(
        [
            *reaching(sys.base_prefix),
            *("setpriv", "--reuid=10001", "--regid=10001", "--clear-groups", "--inh-caps=-all,+dac_override"),
            *("--ambient-caps=-all,+dac_override", "--", sys.executable, "-m", "cloudburst.worker"),
        ],
        env=os.environ | {"CLOUDBURST_EXECUTOR_UIDS": "20000-20100", "CLOUDBURST_STATE_DIR": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "it lacks CAP_CHOWN, CAP_FOWNER, CAP_KILL, CAP_SETGID, CAP_SETUID" in done.stderr


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def executors(pid: int) -> list[psutil.Process]:
    living = [process for process in psutil.Process(pid).children(recursive=True) if not is_gone(process)]
    return [process for process in living if any(inside.START in part for part in process.cmdline())]
