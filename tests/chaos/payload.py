"""The payload of the fault tests: jobs that note their start, write points, and misbehave when told to."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import hostile_jobs

MODULE = '''
import json, os, pathlib, resource, signal, socket, stat, subprocess, sys, threading, time, zlib


def note(params):
    """Say that an attempt has started: one line, in one write, so that lines of many never mix."""
    line = {"n": params["n"], "attempt": int(os.environ["CLOUDBURST_ATTEMPT"]), "pid": os.getpid()}
    line |= {"worker": os.getppid(), "at": time.time()}
    fd = os.open(params["notes"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, json.dumps(line).encode() + b"\\n")
    os.close(fd)


def work(params):
    """Note the start, write points, take as long as told, return what only this job returns."""
    note(params)
    if params.get("points"):
        from cloudburst import results

        for k in range(params["points"]):
            results.write(
                params["measurement"], {"value": float(params["n"])}, time=params["n"] * 1000 + k + 1
            )
    time.sleep(params.get("s", 0))
    if params.get("fail"):
        raise ValueError("told to fail")
    return {"n": params["n"]}


def kill_executor(params):
    """Poison: the executor dies of it."""
    note(params)
    os.kill(os.getpid(), signal.SIGKILL)


def kill_worker(params):
    """Worse poison: the whole worker dies of it."""
    note(params)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def mixed(params):
    """Good jobs, and some that are poison."""
    functions = {"work": among_hostile_ones, "executor": kill_executor, "worker": kill_worker}
    functions["hostile"] = misbehave
    return functions[params.get("what", "work")](params)


def misbehave(params):
    import hostile

    note(params)
    return hostile.misbehave(params)


def among_hostile_ones(params):
    """Do the work, and say what an earlier job has left for this one to see."""
    left = seen()
    work(params)
    print("said by", params["n"])
    text = json.dumps(params, sort_keys=True)
    return {"n": params["n"], "sum": zlib.crc32(text.encode()), "peak": float(params["n"]), "left": left}


def seen_by(params):
    return seen()


def seen():
    """Names of all that is not as it is for the first job of an executor."""
    here = pathlib.Path(__file__).parent
    numbers = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGTERM, signal.SIGCHLD)
    timers = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
    wrong = {
        "directory": os.getcwd() != os.environ.get("TMPDIR"),
        "files": bool(os.listdir()),
        "variables": "HOSTILE" in os.environ or "PATH" not in os.environ,
        **{f"{number.name}: {signal.getsignal(number)}": handled(number) for number in numbers},
        "mask": bool(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "timers": any(any(signal.getitimer(timer)) for timer in timers),
        "umask": UMASK != umask(),
        "limits": LIMITS != limits(),
        "trace": sys.gettrace() is not None,
        "socket timeout": socket.getdefaulttimeout() is not None,
        "payload": (here / "data.txt").read_text() != "data",
        "threads": threading.active_count() > THREADS,
        "output": not stat.S_ISREG(os.fstat(1).st_mode) or os.path.exists("own.log"),
    }
    return [name for name, holds in wrong.items() if holds]


def handled(number):
    return signal.getsignal(number) != signal.SIG_DFL


def umask():
    now = os.umask(0o077)
    os.umask(now)
    return now


def limits():
    kinds = (resource.RLIMIT_CPU, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)
    return [resource.getrlimit(kind) for kind in kinds]


UMASK, LIMITS, THREADS = umask(), limits(), threading.active_count()


def fill_memory(params):
    note(params)
    blocks = []
    while True:
        blocks.append(b"x" * (8 << 20))


def forget_ourselves(params):
    """Start a process that outlives everything it is not tied to."""
    params = dict(params)
    child = subprocess.Popen(["sleep", "60"])
    with open(params["notes"] + ".children", "a") as file:
        file.write("%d\\n" % child.pid)
    note(params)
    time.sleep(60)
'''

SLOW = '''
"""Takes a while to import, so that there is a phase in which a job has an executor but does not run yet."""
import time

import worker

time.sleep(IMPORT_S)


def work(params):
    return worker.work(params)
'''

IMPORT_S = 2.0


@dataclass(frozen=True)
class Note:
    """One start of one job, in the job's own words."""

    n: int
    attempt: int
    pid: int
    worker: int
    at: float
    """Unix time in seconds."""


def read_notes(file: Path) -> list[Note]:
    """All starts so far, in their order."""
    if not file.exists():
        return []
    return [Note(**json.loads(line)) for line in file.read_text().splitlines() if line.endswith("}")]


def write(directory: Path, settings: str = "") -> Path:
    """Write the payload into a directory: no packages, so that its environment is quickly built."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "worker.py").write_text(MODULE)
    (directory / "slow.py").write_text(SLOW.replace("IMPORT_S", str(IMPORT_S)))
    shutil.copy(hostile_jobs.__file__, directory / "hostile.py")
    (directory / "data.txt").write_text("data")
    (directory / "Pipfile").write_text("[packages]\n")
    if settings:
        (directory / "cloudburst.toml").write_text(settings)
    return directory
