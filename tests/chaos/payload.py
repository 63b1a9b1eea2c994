"""The payload of the fault tests: jobs that note their start, write points, and misbehave when told to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

MODULE = '''
import json, os, signal, subprocess, time


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
    functions = {"work": work, "executor": kill_executor, "worker": kill_worker}
    return functions[params.get("what", "work")](params)


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
    (directory / "Pipfile").write_text("[packages]\n")
    if settings:
        (directory / "cloudburst.toml").write_text(settings)
    return directory
