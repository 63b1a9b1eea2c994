"""The peers: each in a file of its own, run by ``drive.py`` in the environment of ../requirements.txt."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import measure
import services

HERE = Path(__file__).resolve().parent
PYTHON = HERE.parent.parent / ".venv-bench" / "bin" / "python"

VERSIONS = """
import importlib.metadata, json
print(json.dumps({found.name: found.version for found in importlib.metadata.distributions()}))
"""


def run(peer: str, jobs: int, processes: int = 2) -> measure.Values:
    """One round: as many jobs on a new Redis without persistence."""
    if not PYTHON.exists():
        raise SystemExit("the peers are not installed: `make .venv-bench` does it")
    with services.bare_redis() as server:
        argv = [str(PYTHON), str(HERE / "drive.py"), peer, server.url, str(jobs), str(processes)]
        answer = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)
    values = {"jobs/s": answer["jobs"] / answer["seconds"]}
    if "cpu_s" in answer:
        values["Redis ms/job"] = answer["cpu_s"] * 1000 / jobs
        values["commands/job"] = answer["commands"] / jobs
        values["round trips/job"] = answer["replies"] / jobs
    return values


def versions() -> dict[str, str]:
    """Of the peers' packages."""
    argv = [str(PYTHON), "-c", VERSIONS]
    answer = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)
    named = {"celery", "distributed", "dramatiq", "huey", "rq", "saq", "taskiq", "taskiq-redis", "redis"}
    return {f"{name} (peer)": version for name, version in sorted(answer.items()) if name in named}
