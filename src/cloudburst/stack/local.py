"""The stack on this machine: start it, stop it, look at it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from cloudburst import config
from cloudburst.errors import StackError
from cloudburst.hosts import process as processes
from cloudburst.hosts import tcp
from cloudburst.hosts.local import LocalHost
from cloudburst.model import Endpoints
from cloudburst.names import LOCAL_STACK
from cloudburst.providers.local import LocalProvider
from cloudburst.stack import facts as state
from cloudburst.stack import records, redis_binary, secrets, services
from cloudburst.stack.act import Act, Say
from cloudburst.stack.facts import Facts
from cloudburst.stack.interruption import interruptible
from cloudburst.stack.lock import held
from cloudburst.stack.paths import Paths, write_private
from cloudburst.stack.plan import Plan, plan
from cloudburst.stack.refusals import explained
from cloudburst.stack.service import Service
from cloudburst.stack.settings import PORT_FLAGS, PortChoice, Settings, Wishes, resolve

LOCK_WAIT_S = 120.0

FOREIGN = ("CLOUDBURST_", "REDIS_", "FILE_HOST", "INFLUX_", "RQ_DASHBOARD_")
"""Variables of the caller that would override what the stack says to its services."""

OF_ANOTHER_PYTHON = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONPLATLIBDIR", "PYTHONUSERBASE")
"""Variables that would have services start with other people's packages, or not at all."""

TUNING = (
    "CLOUDBURST_LEASE_S",
    "CLOUDBURST_GRACE_S",
    "CLOUDBURST_NODE",
    "CLOUDBURST_JOB_VARIABLES",
    "CLOUDBURST_SERIES_LIMIT",
)
"""Those of them that are meant for the worker."""


@dataclass(frozen=True)
class Started:
    """What a start has led to."""

    endpoints: Endpoints
    settings: Settings
    changed: bool
    """False: all was well before, and nothing was done."""
    since: float
    """Unix time in seconds since which its oldest service runs."""


def up(environ: Mapping[str, str], stack: str, wishes: Wishes, say: Say) -> Started:
    """Start the stack, or what is missing or wrong of it; ``say`` takes a line per step.

    Raises StackError or ConfigError, with nothing left running that this call has started;
    ``interruption.Interrupted``, likewise, on Ctrl-C.
    """
    directory = config.stack_dir(environ, stack)
    paths = Paths(directory)
    provider = LocalProvider(directory.parent)
    with explained(), interruptible() as pause, held(paths.lock, say, pause, LOCK_WAIT_S):
        provider.create(stack)
        paths.make()
        before = state.read(paths)
        settings = _settings(wishes, Settings.load(paths.settings), before, standard=stack == LOCAL_STACK)
        secret = secrets.ensure(paths, settings, wishes)
        host = LocalHost(_service_environ(environ, paths))
        where = services.endpoints(stack, settings, secret)
        wanted = services.LocalServices(
            where,
            settings,
            secret,
            paths,
            redis_binary=redis_binary.find(host, environ.get("PATH", os.defpath)),
            python=sys.executable,
            worker_grace_s=config.integer(environ, "CLOUDBURST_GRACE_S", 30),
        ).all()
        # One that runs with other settings is restarted anyway, and may not be where it would be asked.
        right = {one.name: one.ready for one in wanted if before.services[one.name].has(one.settings)}
        there = state.read(paths, right, pause)
        steps = plan(there, wanted)
        _check_ports(steps, there)
        settings.save(paths.settings)
        if steps.headline:
            say(steps.headline)
        Act(host, paths, say, pause).carry_out(steps, there)
        text = where.to_json()
        if not paths.endpoints.exists() or paths.endpoints.read_text(encoding="utf-8") != text:
            write_private(paths.endpoints, text)
        started = [record.process.started_at for record in records.read(paths).values()]
        return Started(where, settings, changed=not steps.empty, since=min(started))


def down(environ: Mapping[str, str], stack: str, say: Say, *, purge: bool = False) -> bool:
    """Stop the stack and every process of it; False when there was nothing to stop.

    ``purge`` also removes its directory. Raises StackError when something survives.
    """
    directory = config.stack_dir(environ, stack)
    paths = Paths(directory)
    provider = LocalProvider(directory.parent)
    nodes = provider.nodes(stack)
    if not nodes:
        return False
    # Interrupting a stop harms nothing: what is left is on record, and the next stop takes it.
    with explained(), held(paths.lock, say, time.sleep, LOCK_WAIT_S):
        there = state.read(paths)
        act = Act(LocalHost(environ), paths, say, time.sleep)
        # First, so that a client that starts now is told that there is no stack.
        paths.endpoints.unlink(missing_ok=True)
        running = there.running()
        act.stop_all([service.record for service in reversed(running)])
        for name in records.SERVICES:
            records.remove(paths, name)
        # Look again: the worker may have been starting an executor when it was stopped.
        strays = state.read(paths).strays
        act.stop_strays(strays)
        if purge:
            for node in nodes:
                provider.remove(node)
    return bool(running or strays)


def _settings(wishes: Wishes, last: Settings | None, there: Facts, *, standard: bool) -> Settings:
    def usable(service: str, port: int) -> bool:
        return there.services[service].process is not None or tcp.can_listen(port)

    return resolve(wishes, last, PortChoice(usable, tcp.FreePorts()), standard_ports=standard)


def _check_ports(steps: Plan, there: Facts) -> None:
    """Raise StackError when a service that is to start would find its port in use."""
    ours = {process.pid for process in there.strays}
    for facts in there.running():
        if facts.process:
            ours |= {process.pid for process in (facts.process, *facts.process.descendants())}
    problems = [
        _port_in_use(service, tcp.listener(service.port))
        for service in steps.start
        if service.port and not tcp.can_listen(service.port) and tcp.listener(service.port) not in ours
    ]
    if problems:
        raise StackError("\n".join(problems))


def _port_in_use(service: Service, pid: int | None) -> str:
    who = processes.describe(pid) if pid else "a process of another user"
    flag = PORT_FLAGS[service.name]
    return (
        f"port {service.port} ({service.name}) is in use by {who}: "
        f"stop that, or use another port: {flag} 0 takes any that is free"
    )


def _service_environ(environ: Mapping[str, str], paths: Paths) -> dict[str, str]:
    kept = {
        name: value
        for name, value in environ.items()
        if name in TUNING or not name.startswith((*FOREIGN, *OF_ANOTHER_PYTHON))
    }
    return kept | {state.MARK: state.mark(paths)}
