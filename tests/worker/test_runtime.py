"""Which of the worker's variables a job sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudburst.config import WorkerConfig
from cloudburst.model import PayloadSettings, Provenance
from cloudburst.worker.runtime import Runtime, executor_environ

PROVENANCE = Provenance("p", "e", "3.11", "linux", "1")
SHELL = {
    "PATH": "/usr/bin",
    "HOME": "/home/ada",
    "LANG": "de_DE.UTF-8",
    "LC_NUMERIC": "C",
    "TZ": "Europe/Berlin",
    "https_proxy": "http://proxy:3128",
    "SSL_CERT_FILE": "/etc/ca.pem",
    "CUDA_VISIBLE_DEVICES": "1",
}
PRIVATE = {
    "AWS_SECRET_ACCESS_KEY": "x",
    "AWS_PROFILE": "work",
    "GITHUB_PAT": "x",
    "DOTOKEN": "x",
    "SSH_AUTH_SOCK": "/run/agent",
    "MY_NOTES": "x",
    "R_HOME": "/opt/R",
    "MATLAB_ROOT": "/opt/matlab",
    "PYTHONPATH": "/home/ada/mine",
    "CLOUDBURST_FILESTORE_TOKEN": "x",
    "REDIS_PASSWORD": "x",
    "INFLUX_TOKEN": "x",
    "PIP_INDEX_URL": "https://ada:x@index",
}


def seen(**more: str) -> dict[str, str]:
    config = WorkerConfig.from_environ({})
    runtime = Runtime("0" * 64, Path("/p"), Path("/env/bin/python"), PayloadSettings(), PROVENANCE)
    return executor_environ(runtime, config, SHELL | PRIVATE | more)


def test_a_job_sees_what_is_meant_for_it_and_not_the_rest_of_the_shell() -> None:
    job = seen()

    assert {name: job[name] for name in SHELL if name != "PATH"} == {
        name: value for name, value in SHELL.items() if name != "PATH"
    }
    assert job["PATH"] == "/env/bin:/usr/bin"
    assert PRIVATE.keys() & job.keys() == set()


def test_whoever_starts_the_worker_can_let_jobs_see_more() -> None:
    job = seen(CLOUDBURST_JOB_VARIABLES="R_HOME, MATLAB*,,AWS_PROFILE")

    assert PRIVATE.keys() & job.keys() == {"R_HOME", "MATLAB_ROOT", "AWS_PROFILE"}


@pytest.mark.parametrize("named", ["*", "REDIS_PASSWORD,INFLUX_*", "CLOUDBURST_*,PYTHONPATH,PIP_INDEX_URL"])
def test_but_never_the_worker_s_own_settings(named: str) -> None:
    never = {
        name
        for name in PRIVATE
        if name.startswith(("CLOUDBURST", "REDIS", "INFLUX", "PYTHON", "PIP")) and name in PRIVATE
    }

    assert never & seen(CLOUDBURST_JOB_VARIABLES=named).keys() == set()
    assert "CLOUDBURST_JOB_VARIABLES" not in seen(CLOUDBURST_JOB_VARIABLES=named)
