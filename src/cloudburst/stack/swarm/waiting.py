"""Waiting until the services of a deployment do their work, and saying which do not, and why."""

from __future__ import annotations

import json
import ssl
import time
import urllib.request
from collections.abc import Callable
from urllib.error import HTTPError

import redis

from cloudburst.commands import docker, machine
from cloudburst.errors import StackError
from cloudburst.model import Endpoints
from cloudburst.rqwire.workers import workers
from cloudburst.stack.swarm import facts as state
from cloudburst.stack.swarm.facts import Service
from cloudburst.stack.swarm.runner import Runner

POLL_S = 1.0
ASK_S = 5.0

_FAILED_TASKS = {"Failed", "Rejected"}


def until_settled(runner: Runner, master: str, stack: str, digest: str, timeout_s: float) -> None:
    """Return when all services run as deployed. Tells each new reason of a task that fails.

    Raises StackError when an update was rolled back, or services still do not run after ``timeout_s``.
    """
    told: set[str] = set()
    deadline = time.monotonic() + timeout_s
    began = time.time()
    while True:
        there = state.parse(runner.read(master, machine.facts(stack)))
        waiting = [one for one in there.services.values() if not one.settled or one.deployment != digest]
        if not waiting:
            return
        for one in waiting:
            if one.update in {"paused", "rollback_completed", "rollback_paused"}:
                raise StackError(
                    f"{one.name}: the update did not work out and was taken back ({one.update})"
                    f"{_reasons(runner, master, [one.name])}"
                )
        for line in _task_errors(runner, master, [one.name for one in waiting], began):
            if line not in told:
                told.add(line)
                runner.say(f"  {line}")
        if time.monotonic() > deadline:
            names = [one.name for one in waiting]
            raise StackError(
                f"after {timeout_s:g} s these services do not run: "
                f"{', '.join(_count(one) for one in waiting)}{_reasons(runner, master, names)}\n"
                f"See their logs: --logs {waiting[0].name.removeprefix(f'{stack}_')}; then deploy again"
            )
        time.sleep(POLL_S)


def until_answering(where: Endpoints, nodes: int, timeout_s: float) -> None:
    """Return when the stack answers from here, and so many workers have registered. Raises StackError."""
    deadline = time.monotonic() + timeout_s

    def wait(what: str, problem: Callable[[], str]) -> None:
        while reason := problem():
            if time.monotonic() > deadline:
                raise StackError(f"{what}: {reason}")
            time.sleep(POLL_S / 2)

    wait(f"the gateway, {where.filestore_url}, does not answer this machine", lambda: _gateway(where))
    wait("the queue does not answer this machine", lambda: _queue(where, 0))
    wait("not all workers have registered", lambda: _queue(where, nodes))


def _gateway(where: Endpoints) -> str:
    context = ssl.create_default_context(cafile=where.ca_file)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(f"{where.filestore_url}/health", timeout=ASK_S):
            return ""
    except HTTPError as error:
        return str(error)
    except OSError as error:
        return f"{error}; is the port open to this machine?"


def _queue(where: Endpoints, nodes: int) -> str:
    try:
        with redis.Redis.from_url(
            where.redis_url, ssl_ca_certs=where.ca_file, socket_timeout=ASK_S, socket_connect_timeout=ASK_S
        ) as client:
            there = workers(client) if nodes else []
            if len({worker.node for worker in there}) < nodes:
                return f"{len(there)} of {nodes} are there; see --logs worker"
    except redis.RedisError as error:
        return f"{error}; is the port open to this machine?"
    return ""


def _count(service: Service) -> str:
    update = f", {service.update}" if service.update else ""
    return f"{service.name} ({service.running} of {service.wanted}{update})"


def _reasons(runner: Runner, master: str, services: list[str]) -> str:
    return "".join(f"\n  {line}" for line in _task_errors(runner, master, services, 0.0)[:10])


def _task_errors(runner: Runner, master: str, services: list[str], _since: float) -> list[str]:
    """Why tasks have failed, or wait: ``queue on m: No such image: ...``, latest first, once each."""
    if not services:
        return []
    found: dict[str, None] = {}
    for line in runner.read(master, docker.tasks(services)).splitlines():
        task = json.loads(line)
        if task["Error"]:
            name = task["Name"].strip().rpartition(".")[0].removeprefix("\\_ ")
            node = f" on {task['Node']}" if task["Node"] else ""
            found[f"{name}{node}: {task['Error'].strip(chr(34))}"] = None
    return list(found)
