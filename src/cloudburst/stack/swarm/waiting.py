"""Waiting until the services of a deployment do their work, and saying which do not, and why."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from urllib.error import HTTPError

import redis

from cloudburst import trust
from cloudburst.commands import docker, machine
from cloudburst.errors import CommandError, QueueError, StackError
from cloudburst.model import Endpoints, WorkerStatus
from cloudburst.rqwire import connection
from cloudburst.rqwire.workers import workers
from cloudburst.stack.swarm import facts as state
from cloudburst.stack.swarm.facts import Service
from cloudburst.stack.swarm.runner import Runner

POLL_S = 1.0
PATIENCE = 15
"""Looks, after which a task that finds no node is worth telling."""

ASK_S = 10.0


def until_settled(
    runner: Runner,
    master: str,
    stack: str,
    *,
    digest: str,
    timeout_s: float,
    past: frozenset[str] = frozenset(),
) -> None:
    """Return when all services run as deployed. Tells each new reason of a task that fails.

    ``past``: tasks that had failed before. Raises StackError when an update was rolled back, or services
    still do not run after ``timeout_s``.
    """
    seen: Counter[str] = Counter()
    deadline = time.monotonic() + timeout_s
    while True:
        there = state.parse(runner.read(master, machine.facts(stack)))
        waiting = [one for one in there.services.values() if not one.settled or one.deployment != digest]
        if not waiting:
            return
        for one in waiting:
            if one.update in {"paused", "rollback_completed", "rollback_paused"}:
                raise StackError(
                    f"{one.name}: the update did not work out and was taken back ({one.update})"
                    f"{_reasons(runner, master, [one.name], past)}"
                )
        for line in _task_errors(runner, master, [one.name for one in waiting], past):
            seen[line] += 1
            # While a service is replaced there is no room for the new one, for a moment.
            if seen[line] == (PATIENCE if "no suitable node" in line else 1):
                runner.say(f"  {line}")
        if time.monotonic() > deadline:
            names = [one.name for one in waiting]
            raise StackError(
                f"after {timeout_s:g} s these services do not run: "
                f"{', '.join(_count(one) for one in waiting)}"
                f"{_reasons(runner, master, names, past)}\n"
                f"See their logs: --logs {waiting[0].name.removeprefix(f'{stack}_')}; then deploy again"
            )
        time.sleep(POLL_S)


def until_answering(where: Endpoints, timeout_s: float) -> None:
    """Return when the stack answers from here. Raises StackError."""
    deadline = time.monotonic() + timeout_s
    what = f"the gateway, {where.filestore_url}, does not answer this machine"
    _wait(what, lambda: _gateway(where), deadline)
    _wait("the queue does not answer this machine", lambda: _workers(where)[1], deadline)


def until_registered(
    where: Endpoints, nodes: Mapping[str, str], missing: int, timeout_s: float
) -> list[WorkerStatus]:
    """Return the workers when all ``nodes`` have one; ``missing``: how many of them need not.

    ``nodes``: their names, and those of their machines. Raises StackError, which names those without.
    """
    there: list[WorkerStatus] = []

    def without() -> str:
        nonlocal there
        there, problem = _workers(where)
        left = sorted(set(nodes) - {worker.node for worker in there})
        if problem or len(left) <= missing:
            return problem
        names = ", ".join(nodes[node] for node in left)
        return (
            f"none has come from {names}. The others are there, and jobs run; see --logs worker, then deploy "
            "again. If it says that the address is in use, restart Docker on that machine first"
        )

    _wait("not all workers have registered", without, time.monotonic() + timeout_s)
    return there


def _wait(what: str, problem: Callable[[], str], deadline: float) -> None:
    while reason := problem():
        if time.monotonic() > deadline:
            raise StackError(f"{what}: {reason}")
        time.sleep(POLL_S / 2)


def _gateway(where: Endpoints) -> str:
    context = trust.context(where.ca_file)
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


def _workers(where: Endpoints) -> tuple[list[WorkerStatus], str]:
    """Those that have registered; or why they cannot be known."""
    try:
        with connection.connect(where.redis_url, ca_file=where.ca_file, timeout_s=ASK_S) as client:
            return workers(client), ""
    except (redis.RedisError, QueueError) as error:
        return [], f"{error}; is the port open to this machine?"


def _count(service: Service) -> str:
    update = f", {service.update}" if service.update else ""
    return f"{service.name} ({service.running} of {service.wanted}{update})"


def failed_tasks(runner: Runner, master: str, services: Collection[str]) -> frozenset[str]:
    """IDs of the tasks that have failed so far."""
    return frozenset(task["ID"] for task in _tasks(runner, master, services) if task["Error"])


def _reasons(runner: Runner, master: str, services: Collection[str], past: Collection[str]) -> str:
    return "".join(f"\n  {line}" for line in _task_errors(runner, master, services, past)[:10])


def _task_errors(runner: Runner, master: str, services: Collection[str], past: Collection[str]) -> list[str]:
    """Why tasks have failed, or wait: ``swarm_queue on m: No such image: ...``, latest first, once each."""
    found: dict[str, str] = {}
    for task in _tasks(runner, master, services):
        if task["Error"] and task["ID"] not in past:
            name = task["Name"].strip().removeprefix("\\_ ").rpartition(".")[0]
            node = f" on {task['Node']}" if task["Node"] else ""
            line = f"{name}{node}: {task['Error'].strip(chr(34))}"
            if line not in found:
                found[line] = _log(runner, master, task["ID"]) if "non-zero" in line else ""
    return [line + log for line, log in found.items()]


def _log(runner: Runner, master: str, task: str) -> str:
    """The last lines of a task that has ended, each on a line of its own."""
    with contextlib.suppress(CommandError):  # its container is gone, or its node
        lines: list[str] = []
        runner.follow(master, docker.task_logs(task, tail=5), lines.append, ASK_S)
        return "".join(f"\n    {line}" for line in lines[-5:])
    return ""


def _tasks(runner: Runner, master: str, services: Collection[str]) -> list[dict[str, str]]:
    if not services:
        return []
    return [json.loads(line) for line in runner.read(master, docker.tasks(services)).splitlines()]
