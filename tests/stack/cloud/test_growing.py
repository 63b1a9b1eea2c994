"""The loop of an elastic stack, at the fake provider; what workers would tell the queue, the test does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from cloudburst.errors import ConfigError, StackError
from cloudburst.model import Endpoints, EnsembleSpec
from cloudburst.providers.digitalocean.provider import DigitalOcean
from cloudburst.rqwire import nodes
from cloudburst.rqwire.ensembles import Ensembles
from cloudburst.rqwire.leases import Leases, Outcome
from cloudburst.rqwire.workers import Registration
from cloudburst.stack.cloud import deploy
from cloudburst.stack.cloud.growing import Growing
from cloudburst.stack.cloud.observing import BOOT_S, Observer, slots_of
from cloudburst.stack.cloud.settings import Settings, Wishes
from cloudburst.stack.paths import write_private
from cloudburst.stack.swarm.deploy import Deployed
from tests.conftest import RedisServer
from tests.digitalocean.fake import FakeDigitalOcean
from tests.stack.cloud import parts
from tests.wait import wait_until

STACK = "floods"
ROOT = Path(__file__).resolve().parents[3]


class Swarm(parts.Swarm):
    """Has a queue that answers; nodes that drain have what jobs the test gave them."""

    def __init__(self, environ: dict[str, str], redis_server: RedisServer) -> None:
        super().__init__(environ, STACK)
        self._redis = redis_server
        self.held: set[str] = set()

    def deploy(self, names: Sequence[str]) -> Deployed:
        done = super().deploy(names)
        url = f"redis://client:x@127.0.0.1:{self._redis.port}/0"
        self._redis.client().execute_command(
            "ACL", "SETUSER", "operator", "on", ">secret", "~*", "&*", "+@all"
        )
        write_private(self._paths.secret("redis-operator"), "secret")
        write_private(self._paths.endpoints, Endpoints(STACK, url, "", "", "", "").to_json())
        return done

    def drain(self, name: str, timeout_s: float | None) -> None:
        if name in self.held:
            raise StackError(f"{name}: 1 job still runs after {timeout_s:g} s")
        super().drain(name, timeout_s)


class World:
    """A stack of one node, between 1 and 4; the clock is the test's."""

    def __init__(self, directory: Path, fake: FakeDigitalOcean, redis_server: RedisServer) -> None:
        self.fake = fake
        self.environ = parts.home(directory, fake.environ)
        self.swarm = Swarm(self.environ, redis_server)
        self.redis = redis_server.client()
        self.ensembles = Ensembles(self.redis)
        self.said: list[str] = []
        self.directory = directory / STACK
        self.late_s = 0.0
        self.up(Wishes(nodes=1, min_nodes=1, max_nodes=4))
        self.growing = self.new()

    @property
    def provider(self) -> DigitalOcean:
        return DigitalOcean(self.fake.token, self.fake.end_point, sleep=lambda _seconds: None)

    def new(self) -> Growing:
        return Growing(
            self.environ, ROOT, STACK, self.said.append,
            provider=self.provider, swarm=self.swarm, clock=lambda: time.time() + self.late_s,
        )  # fmt: skip

    def up(self, wishes: Wishes) -> None:
        deploy.up(
            self.environ, ROOT, STACK, wishes, self.said.append, provider=self.provider, swarm=self.swarm
        )

    def round(self, later_s: float = 15.0) -> int:
        """One round, so much later; by how many nodes it changed the stack."""
        self.late_s += later_s
        decision = self.growing.round()
        return decision.add - len(decision.drain)

    def beat(self, *names: str, busy: int = 0) -> None:
        for name in names:
            worker = Registration(self.redis, name=name, queue="default", node=name, slots=2)
            worker.heartbeat(busy=busy, current_job="")

    def submit(self, jobs: int, took_s: float) -> Leases:
        """An ensemble, one job of which has run and has taken so long; its others wait."""
        ensemble = self.ensembles.create(EnsembleSpec("e", "worker.work", ""))
        self.ensembles.append(ensemble, "worker.work", 0, [b"{}"] * jobs)
        self.ensembles.seal(ensemble)
        leases = Leases(self.redis, queue="default", worker=f"{STACK}-1", node=f"{STACK}-1", lease_s=600)
        leases.finish([Outcome(leases.claim(1)[0], "finished", time.time(), took_s, value=b"1")])
        return leases

    @property
    def machines(self) -> list[str]:
        return self.fake.account.names()

    @property
    def log(self) -> str:
        file = self.directory / "elastic.log"
        return file.read_text() if file.exists() else ""


@pytest.fixture
def world(tmp_path: Path, redis_server: RedisServer) -> Iterator[World]:
    with FakeDigitalOcean() as fake:
        yield World(tmp_path, fake, redis_server)
        fake.check()


def names(count: int) -> list[str]:
    return [*(f"{STACK}-{number}" for number in range(1, count + 1)), f"{STACK}-master"]


def test_it_grows_with_the_work_and_shrinks_when_that_is_done(world: World) -> None:
    world.beat(f"{STACK}-1")
    assert world.round() == 0
    world.submit(100, took_s=60)

    assert world.round() == 3
    assert world.machines == names(4)
    assert world.swarm.steps[-1] == "deploy floods-master floods-1 floods-2 floods-3 floods-4"
    assert world.round(300) == 0, "they are being made"
    world.beat(*names(4)[:-1])
    assert world.round() == 0
    world.redis.delete("rq:queue:default", "cb:open:default")
    assert world.round() == 0
    assert world.round(899) == -3

    assert len(world.machines) == 2
    assert Settings.load(world.directory / "fleet.json").nodes == 1
    assert "+3: 99 jobs wait, 49 min 30 s of work for each of 2 slots: more than 10 min" in world.log
    assert "had nothing to do for" in world.log
    assert all(line.split()[0].endswith("Z") for line in world.log.splitlines())
    assert world.round(9000) == 0


def test_a_node_that_got_a_job_after_all_stays(world: World) -> None:
    world.up(Wishes(nodes=2))
    world.beat(*names(2)[:-1])
    world.round()
    leases = Leases(world.redis, queue="default", worker=f"{STACK}-1", node=f"{STACK}-1", lease_s=600)

    def drain(name: str, timeout_s: float | None) -> None:
        """It is claimed between the look and the drain."""
        nodes.set_draining(world.redis, name, True)
        ensemble = world.ensembles.create(EnsembleSpec("e", "worker.work", ""))
        world.ensembles.append(ensemble, "worker.work", 0, [b"{}"])
        leases.claim(1)
        raise StackError(f"{name}: 1 job still runs after {timeout_s} s")

    world.swarm.drain = drain  # type: ignore[method-assign]
    world.round(901)

    assert world.machines == names(2)
    assert not nodes.read(world.redis, f"{STACK}-1").draining
    assert f"{STACK}-1 stays" in world.log


def test_a_node_that_had_begun_to_leave_leaves_when_it_starts_again(world: World) -> None:
    world.up(Wishes(nodes=2))
    world.beat(*names(2)[:-1])
    world.swarm.held = {f"{STACK}-1", f"{STACK}-2"}
    world.round()
    with pytest.raises(StackError):  # it does not run on: something is wrong with its machine
        world.round(901)
    world.swarm.held = set()
    world.growing = world.new()

    world.round()

    assert world.machines == [f"{STACK}-2", f"{STACK}-master"]
    assert "it had begun to leave" in world.log


def test_what_fails_is_told_and_tried_again(world: World) -> None:
    world.fake.fault("GET /v2/droplets", "status", status=401, times=2)
    stop = threading.Event()
    thread = threading.Thread(target=world.growing.watch, args=(stop, 0.05))
    thread.start()

    wait_until(lambda: "±0" in world.log, 60, "a round that went well")
    stop.set()
    thread.join(30)

    assert "trying again" in world.log
    assert world.machines == names(1)


def test_neither_a_log_that_cannot_be_written_nor_a_closed_terminal_ends_it(world: World) -> None:
    log = world.directory / "elastic.log"
    log.unlink(missing_ok=True)
    log.mkdir()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        raise BrokenPipeError

    growing = Growing(
        world.environ, ROOT, STACK, say, provider=world.provider, swarm=world.swarm, clock=time.time
    )
    world.fake.fault("GET /v2/droplets", "status", status=401, times=2)
    stop = threading.Event()
    thread = threading.Thread(target=growing.watch, args=(stop, 0.05))
    thread.start()

    wait_until(lambda: any("±0" in line for line in said), 60, "a round that went well")
    stop.set()
    thread.join(30)

    assert any("trying again" in line for line in said)


@pytest.mark.parametrize("text", ["[", "{}", "5", "[1, null]"])
def test_a_damaged_note_of_who_was_leaving_is_no_hindrance(world: World, text: str) -> None:
    (world.directory / "leaving.json").write_text(text)

    assert world.round() == 0
    assert world.machines == names(1)


def test_it_ends_when_the_stack_is_taken_away(world: World) -> None:
    (world.directory / "fleet.json").unlink()

    with pytest.raises(ConfigError):
        world.growing.watch(threading.Event(), 0.01)


def test_a_stack_without_bounds_is_not_elastic(world: World) -> None:
    world.up(Wishes(max_nodes=0, min_nodes=0))

    with pytest.raises(ConfigError, match="--min 1 --max 10"):
        world.new()


def test_a_machine_whose_worker_never_comes_does_not_stand_for_slots(world: World) -> None:
    observer = Observer(900)
    machines = world.provider.nodes(STACK)
    look: Callable[[float], int] = lambda now: observer.look(world.redis, machines, "c-8", now).nodes[0].slots  # noqa: E731

    assert look(time.time()) == 8
    assert look(time.time() + BOOT_S + 60) == 0


@pytest.mark.parametrize(
    ("size", "slots"), [("s-2vcpu-4gb", 2), ("c-8", 8), ("c2-16vcpu-32gb-intel", 16), ("odd", 1)]
)
def test_how_many_slots_a_size_has(size: str, slots: int) -> None:
    assert slots_of(size) == slots
