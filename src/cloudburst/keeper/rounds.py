"""What the keeper does in each of its rounds: look, decide, and go one step on with ending the stack.

Every step may be the last of this process: what the next one has to know is in Redis by then.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import redis

from cloudburst.config import KeeperConfig
from cloudburst.errors import CloudburstError, QueueError
from cloudburst.keeper.verdict import Life, Limits, Verdict, decide
from cloudburst.providers.provider import Node
from cloudburst.rqwire import activity, connection, ending, nodes
from cloudburst.rqwire.connection import Redis
from cloudburst.rqwire.ending import Announcement, Memory, Stage
from cloudburst.rqwire.held import held
from cloudburst.rqwire.workers import workers

log = logging.getLogger(__name__)

LOOK_S = 300.0
"""How often the provider is asked while all is well: twelve of the 5,000 calls that an hour has."""

LOOK_AGAIN_S = 30.0
"""How often it is asked while it refuses."""

Say = Callable[[str], None]


class Machines(Protocol):
    """What the keeper needs of a provider. Raises CloudburstError."""

    def nodes(self, stack: str) -> Sequence[Node]:
        """All machines of the stack."""
        ...

    def remove_from_inside(self, stack: str, own: str, say: Say) -> None:
        """Remove everything of the stack, and last the machine ``own``, on which this runs."""
        ...


@dataclass(frozen=True)
class _Queue:
    """What Redis says in one round."""

    busy: bool
    latest_at: float
    running: int
    unaware: int
    """Workers that have not noticed yet that they are to take no new jobs."""


class Keeper:
    """Keeps one stack. Redis or the provider may be away at any time; the stack ends nevertheless."""

    def __init__(
        self, config: KeeperConfig, opened: Callable[[], Machines], clock: Callable[[], float]
    ) -> None:
        """``opened`` gives the provider's machines, or raises CloudburstError."""
        self._config = config
        self._opened = opened
        self._clock = clock
        self._limits = Limits(config.ttl_s, config.idle_s)
        self._redis: Redis | None = None
        self._recalled = False
        self._memory = Memory()
        self._said = Announcement()
        self._looked_at = 0.0
        self._away = ""

    @property
    def stage(self) -> Stage:
        return self._said.stage

    def round(self) -> None:
        """One round. Raises nothing that may pass."""
        now = self._clock()
        self._look(now)
        queue = self._read(now)
        verdict = decide(self._life(queue, now), self._limits, now)
        if queue and not verdict.ends and self._said.stage in {"draining", "collecting"}:
            log.info("stack %s goes on: %s", self._config.stack, verdict.reason)
            self._said = Announcement(problem=self._said.problem)
        self._go_on(verdict, queue, now)
        self._tell(now)
        if self._said.stage == "removing":
            self._remove()
            self._tell(now)

    # Looking

    def _look(self, now: float) -> None:
        """Ask the provider whether it would do as it is told, long before it has to."""
        if self._said.stage == "removing":
            return
        every = LOOK_AGAIN_S if self._said.problem else LOOK_S
        if self._looked_at and now - self._looked_at < every:
            return
        self._looked_at = now
        problem = ""
        try:
            found = self._opened().nodes(self._config.stack)
        except CloudburstError as error:
            problem = str(error)
        else:
            begun = [node.created_at for node in found if node.name == self._config.own]
            if begun:
                self._memory = replace(self._memory, begun_at=begun[0])
            else:
                own = self._config.own
                problem = f"its token shows no machine {own}: is it of another account or team?"
        self._problem(problem)

    def _problem(self, problem: str) -> None:
        if problem and problem != self._said.problem:
            log.error("cannot end stack %s: %s", self._config.stack, problem)
        elif self._said.problem and not problem:
            log.info("could end stack %s now", self._config.stack)
        self._said = replace(self._said, problem=problem)

    def _read(self, now: float) -> _Queue | None:
        """What Redis says; None while it is away."""
        with self._talking():
            if self._redis is None:
                self._redis = connection.connect(self._config.redis_url)
            client = self._redis
            self._recall(client, now)
            seen = activity.read(client, self._config.queue)
            alive = workers(client)
            return _Queue(
                busy=seen.busy,
                latest_at=seen.latest_at,
                running=len(held(client, self._config.queue)),
                unaware=sum(one.state not in {"draining", "stopping"} for one in alive),
            )
        return None

    def _recall(self, client: Redis, now: float) -> None:
        before = ending.recall(client)
        if not self._recalled:
            self._recalled = True
            if before.idle_s != self._limits.idle_s or not before.busy_at:
                # Another wish than before, or the first: its time begins now.
                before = replace(before, idle_s=self._limits.idle_s, busy_at=now)
            said = ending.read(client)
            if said and self._said.stage == "watching":
                self._said = replace(said, problem=self._said.problem)
                if said.stage != "watching":
                    log.info("goes on with ending stack %s: %s", self._config.stack, said.stage)
                # Whoever has deployed again since, with other wishes, may have saved it.
                if said.stage == "removing":
                    self._said = replace(self._said, stage="collecting")
            begun_at = self._memory.begun_at or before.begun_at or now
            self._memory = replace(before, begun_at=begun_at)
        elif before.busy_at > self._memory.busy_at:
            self._memory = replace(self._memory, busy_at=before.busy_at)

    def _life(self, queue: _Queue | None, now: float) -> Life:
        begun_at = self._memory.begun_at or now
        if queue is None:
            return Life(begun_at, busy=True, busy_at=now)
        busy_at = max(self._memory.busy_at, queue.latest_at, now if queue.busy else 0.0)
        self._memory = replace(self._memory, busy_at=min(busy_at, now))
        return Life(begun_at, queue.busy, self._memory.busy_at)

    # Ending

    def _go_on(self, verdict: Verdict, queue: _Queue | None, now: float) -> None:
        waited_s = now - self._said.since
        match self._said.stage:
            case "watching":
                self._said = replace(self._said, deadline=verdict.deadline, reason=verdict.reason)
                self._undrain()
                if verdict.ends and not self._said.problem:
                    self._enter("draining", now, name=f"{now:.0f}")
            case "draining":
                self._drain()
                ended = queue is not None and not queue.running and not queue.unaware
                if ended or waited_s > self._config.grace_s:
                    left = queue.running if queue else 0
                    if left:
                        log.warning("%d jobs still run after %g s, and end with the stack", left, waited_s)
                    self._enter("collecting", now)
            case "collecting":
                if waited_s > self._config.save_s or self._collected():
                    self._enter("removing", now)
            case "removing":
                pass

    def _enter(self, stage: Stage, now: float, name: str = "") -> None:
        log.info("stack %s: %s: %s", self._config.stack, stage, self._said.reason)
        self._said = replace(self._said, stage=stage, since=now, name=name or self._said.name)

    def _undrain(self) -> None:
        """There was work again, or more time was given, after nodes had been told to take no new jobs."""
        if self._memory.drained:
            with self._talking():
                for node in self._memory.drained:
                    nodes.set_draining(self._queue, node, False)
                self._memory = replace(self._memory, drained=())

    def _drain(self) -> None:
        with self._talking():
            wishes = nodes.read_all(self._queue)
            for node in sorted({one.node for one in workers(self._queue)}):
                if not wishes.get(node, nodes.Wishes()).draining:
                    # Remembered first: a node that is draining for no reason would do so for ever.
                    self._memory = replace(self._memory, drained=(*self._memory.drained, node))
                    ending.remember(self._queue, self._memory)
                    nodes.set_draining(self._queue, node, True)

    def _collected(self) -> bool:
        """Whether all clients that are there have all results; nobody knows while Redis is away."""
        with self._talking():
            watchers = ending.watchers(self._queue).values()
            have = [one for one in watchers if one.collected == self._said.name]
            missing = [one for one in watchers if one.there and one not in have]
            return not missing and bool(have or not self._config.save)
        return False

    def _remove(self) -> None:
        try:
            self._opened().remove_from_inside(self._config.stack, self._config.own, log.info)
        except CloudburstError as error:
            self._problem(str(error))
        else:
            self._problem("")

    # Telling

    def _tell(self, now: float) -> None:
        self._said = replace(self._said, said_at=now)
        with self._talking():
            if self._recalled:
                ending.remember(self._queue, self._memory)
                ending.announce(self._queue, self._said)

    @property
    def _queue(self) -> Redis:
        if self._redis is None:
            raise QueueError(f"Redis at {connection.shown(self._config.redis_url)} was not reached yet")
        return self._redis

    @contextlib.contextmanager
    def _talking(self) -> Iterator[None]:
        """A Redis that is away is told once, and not waited for."""
        try:
            yield
        except (QueueError, redis.RedisError) as error:
            if not self._away:
                log.warning("%s; trying again", error)
            self._away = str(error)
        else:
            if self._away and self._redis is not None:
                log.info("Redis answers again")
                self._away = ""
