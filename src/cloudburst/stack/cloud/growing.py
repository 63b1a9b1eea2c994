"""A stack that grows and shrinks: looks, decides, and does it, until it is interrupted."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import redis

from cloudburst import config
from cloudburst.errors import CloudburstError, ConfigError, StackError
from cloudburst.pace import duration
from cloudburst.providers.digitalocean.provider import DigitalOcean
from cloudburst.rqwire import nodes
from cloudburst.rqwire.held import held
from cloudburst.rqwire.workers import workers
from cloudburst.stack.cloud import account, deploy, leaving
from cloudburst.stack.cloud.elastic import Decision, Rules, decide
from cloudburst.stack.cloud.observing import Observer
from cloudburst.stack.cloud.paths import CloudPaths
from cloudburst.stack.cloud.settings import Settings, Wishes, known
from cloudburst.stack.cloud.swarm import Swarm
from cloudburst.stack.paths import read_text, write_private
from cloudburst.stack.swarm import operator
from cloudburst.stack.swarm.runner import Say

ROUND_S = 15.0
FIRST_PAUSE_S = 15.0
LONGEST_PAUSE_S = 300.0

DRAIN_S = 60.0
"""A node that was idle has no more jobs; if it has, after all, it stays."""

TOLD_S = 1800.0
"""How often it is told that nothing is to be done."""


def rules(settings: Settings) -> Rules:
    """Raises ConfigError for a stack that is not elastic."""
    if not settings.max_nodes:
        raise ConfigError("this stack is not elastic: say between how many nodes, --min 1 --max 10")
    return Rules(max(settings.min_nodes, 1), settings.max_nodes)


class Growing:
    """One stack's growth. What it decides is told, and written to its ``elastic.log``."""

    def __init__(
        self,
        environ: Mapping[str, str],
        root: Path,
        stack: str,
        say: Say,
        *,
        provider: DigitalOcean | None = None,
        swarm: Swarm | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._environ, self._root, self._stack, self._say = environ, root, stack, say
        self._provider, self._swarm, self._clock = provider, swarm, clock
        self._paths = CloudPaths(config.stack_dir(environ, stack))
        self._rules = rules(known(self._paths.fleet, stack))
        self._observer = Observer(self._rules.idle_s)
        self._told = ("", 0.0)

    def watch(self, stop: threading.Event, every_s: float = ROUND_S) -> None:
        """Look again and again. The stack stays as it is when this ends, however it ends."""
        self._log(
            f"watching stack {self._stack}: {self._rules.min} to {self._rules.max} nodes, more when there is "
            f"more than {duration(self._rules.grow_s)} of work per slot, fewer when they were idle for "
            f"{duration(self._rules.idle_s)}"
        )
        pause_s = FIRST_PAUSE_S
        while not stop.is_set():
            try:
                self.round()
            except ConfigError as error:
                if not self._paths.fleet.exists():
                    raise  # the stack was taken away
                self._fail(error)
            except (CloudburstError, redis.RedisError, OSError) as error:
                self._fail(error)
            else:
                pause_s = FIRST_PAUSE_S
                stop.wait(every_s)
                continue
            stop.wait(min(pause_s, every_s * 20))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def round(self) -> Decision:
        """Look once, and do what is to be done. Raises CloudburstError, OSError, and what redis-py raises."""
        settings = known(self._paths.fleet, self._stack)
        self._rules = rules(settings)
        provider = self._provider or account.opened(self._environ)
        try:
            self._finish_leaving(provider)
        except CloudburstError as error:
            self._fail(error)
        machines = provider.nodes(self._stack)
        now = self._clock()
        with operator.queue(self._environ, self._stack) as queue:
            seen = self._observer.look(queue, machines, settings.size, now)
        decision = decide(seen, self._rules, now)
        self._tell(decision, now)
        if decision.change:
            try:
                self._do(decision, len(seen.nodes), provider)
            finally:
                self._observer.changed_at = self._clock()
        return decision

    def _do(self, decision: Decision, count: int, provider: DigitalOcean) -> None:
        if decision.add:
            deploy.up(
                self._environ,
                self._root,
                self._stack,
                Wishes(nodes=count + decision.add),
                self._say,
                provider=provider,
                swarm=self._swarm,
            )
            return
        for name in decision.drain:
            self._leave(name, provider)

    def _leave(self, name: str, provider: DigitalOcean) -> None:
        """Take one node away; one that got a job in the meantime stays."""
        write_private(self._paths.leaving, json.dumps([name]))
        try:
            leaving.leave(
                self._environ,
                self._stack,
                [name],
                self._say,
                timeout_s=DRAIN_S,
                provider=provider,
                swarm=self._swarm,
            )
        except StackError as error:
            if not self._works(name):
                raise
            self._log(f"{name} stays: {error}")
        self._paths.leaving.unlink()

    def _works(self, name: str) -> bool:
        """Let a node go on that has jobs; whether it has."""
        with operator.queue(self._environ, self._stack) as queue:
            its = [one.name for one in workers(queue) if one.node == name]
            busy = any(job.worker in its for job in held(queue))
            if busy:
                nodes.set_draining(queue, name, False)
        return busy

    def _finish_leaving(self, provider: DigitalOcean) -> None:
        """Go on with what was cut off: a node that drains does no work, and costs as much as any."""
        text = read_text(self._paths.leaving)
        if not text:
            return
        there = {node.name for node in provider.nodes(self._stack)}
        for name in _names_in(text):
            if name in there:
                self._log(f"-1 ({name}): it had begun to leave")
                self._leave(name, provider)
        self._paths.leaving.unlink(missing_ok=True)

    def _tell(self, decision: Decision, now: float) -> None:
        """Each change at once; that there is nothing to do, when its reason is another, now and then."""
        if decision.change:
            what = (
                f"+{decision.add}"
                if decision.add
                else f"-{len(decision.drain)} ({', '.join(decision.drain)})"
            )
            self._log(f"{what}: {decision.reason}")
            self._told = ("", 0.0)
            return
        kind = "".join(letter for letter in decision.reason if not letter.isdigit())
        if kind != self._told[0] or now - self._told[1] > TOLD_S:
            self._told = (kind, now)
            self._log(f"±0: {decision.reason}")

    def _fail(self, error: Exception) -> None:
        self._log(f"{error}; trying again")

    def _log(self, line: str) -> None:
        """Tell it where that is possible: neither a full disk nor a closed terminal ends the watching."""
        with contextlib.suppress(OSError):
            self._say(line)
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))
        with (
            contextlib.suppress(OSError),
            self._paths.elastic_log.open("a", encoding="utf-8") as file,
        ):
            file.write(f"{moment} {line}\n")


def _names_in(text: str) -> list[str]:
    """The nodes that were leaving; none if the file is damaged: then they still drain, and are found idle."""
    try:
        names = json.loads(text)
    except ValueError:
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
