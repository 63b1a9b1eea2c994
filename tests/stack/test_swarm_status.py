"""How a swarm's stack is said to be, with a real Redis, a real gateway certificate and what a master says."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from cloudburst.errors import StackError
from cloudburst.model import Endpoints, EnsembleSpec, NodeReading, PointsWaiting
from cloudburst.rqwire import ending
from cloudburst.rqwire.ensembles import Ensembles
from cloudburst.rqwire.workers import Registration
from cloudburst.stack.swarm import certificates
from cloudburst.stack.swarm.facts import MachineFacts, Node, Service
from cloudburst.stack.swarm.paths import SwarmPaths
from cloudburst.stack.swarm.status import DAY_S, SwarmStatus, certificate_end, size
from cloudburst.stack.swarm.status import status as read_status
from cloudburst.stack.swarm.waiting import until_registered
from tests.certificates import Authority, TlsFront
from tests.conftest import RedisServer, free_port
from tests.influx import program
from tests.wait import wait_until

GB = 10**9
READING = NodeReading(50.0, 4 * GB, 8 * GB, 50 * GB, 100 * GB, GB)

MASTER = Node("1", "m", "10.0.0.1", "ready", "active", True, {"cloudburst.master": "true"})
COMPUTE = Node("2", "a", "10.0.0.2", "ready", "active", False, {"cloudburst.worker": "true"})
SERVICES = {
    "s_queue": Service("s_queue", "d", "", 1, 1),
    "s_worker": Service("s_worker", "d", "completed", 1, 1),
}
FACTS = MachineFacts(disk_bytes=100 * GB, disk_free_bytes=60 * GB, nodes=(MASTER, COMPUTE), services=SERVICES)

GATEWAY = """
daemon off;
user root root;
pid {directory}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {directory}/tls.crt;
        ssl_certificate_key {directory}/tls.key;
        return 200;
    }}
}}
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """URL of an nginx with a certificate of a stack's own authority, and that authority's file."""
    directory = tmp_path_factory.mktemp("gateway")
    paths = SwarmPaths(directory / "stack")
    paths.make()
    made = certificates.ensure(paths, "s", ["127.0.0.1"])
    (directory / "tls.crt").write_text(made.server.certificate)
    (directory / "tls.key").write_text(made.server.key)
    (directory / "ca.pem").write_text(made.authority)
    port = free_port()
    (directory / "nginx.conf").write_text(GATEWAY.format(directory=directory, port=port))
    process = subprocess.Popen([program("nginx"), "-c", str(directory / "nginx.conf")])
    url, ca_file = f"https://127.0.0.1:{port}", str(directory / "ca.pem")
    wait_until(lambda: answers(url, ca_file), 10, "nginx to answer")
    yield url, ca_file
    process.terminate()
    process.wait()


def answers(url: str, ca_file: str) -> float:
    try:
        return certificate_end(Endpoints("s", "", url, "", "", "", ca_file=ca_file))
    except OSError:
        return 0.0


@pytest.fixture
def endpoints(gateway: tuple[str, str], redis_server: RedisServer) -> Endpoints:
    url, ca_file = gateway
    return Endpoints("s", redis_server.url_of("client"), url, "", "", "", ca_file=ca_file)


@pytest.fixture
def worker(redis_server: RedisServer) -> Registration:
    made = Registration(redis_server.client(), name="a-1", queue="default", node="a", slots=4)
    made.reading = READING
    made.heartbeat(busy=3, current_job="j")
    return made


def look(endpoints: Endpoints | None, facts: MachineFacts | None = FACTS, **more: float) -> SwarmStatus:
    return read_status(
        "s", facts, "" if facts else "m: no answer by ssh", endpoints, more.get("now", time.time())
    )


def test_a_deployment_that_misses_workers_says_on_which_machines(endpoints, worker):
    nodes = {"a": "a.example", "b": "b.example"}

    assert [one.slots for one in until_registered(endpoints, nodes, 1, 0)] == [4]
    with pytest.raises(StackError, match=r"none has come from b\.example\. The others are there"):
        until_registered(endpoints, nodes, 0, 0)


def test_a_stack_without_problems(endpoints, worker, redis_server):
    ensembles = Ensembles(redis_server.client())
    ensemble = ensembles.create(EnsembleSpec("floods", "worker.work", ""))
    ensembles.append(ensemble, "worker.work", 0, [b"{}"] * 3)

    found = look(endpoints)

    assert (found.state, found.problems, found.warnings) == ("running", (), ())
    master, compute = found.nodes
    assert (master.name, master.master, master.slots) == ("m", True, 0)
    assert (compute.name, compute.state, compute.busy, compute.slots) == ("a", "ready", 3, 4)
    assert compute.reading == READING
    assert found.inside.queue.waiting == 3
    assert [one.id for one in found.inside.ensembles] == [ensemble]


def test_points_that_wait_for_the_database_are_a_problem_after_a_while(endpoints, worker):
    reason = "http://gateway:8086 answers 500 (too many open files)"
    for waited_s, problems in ((5, 0), (600, 1)):
        worker.points_waiting = PointsWaiting(12_345, time.time() - waited_s, reason)
        worker.heartbeat(busy=3, current_job="j")
        found = look(endpoints)
        assert len(found.problems) == problems

    assert found.state == "partial"
    (said,) = found.problems
    assert said.startswith("about 12,345 points of jobs wait since 20")
    assert said.endswith(f" on a, which keep them until the database takes them: {reason}")
    worker.points_waiting = None
    worker.heartbeat(busy=3, current_job="j")
    assert look(endpoints).state == "running"


def test_one_that_is_not_deployed_is_stopped(endpoints):
    assert look(endpoints, MachineFacts()).state == "stopped"


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (replace(COMPUTE, state="down"), "a (10.0.0.2) is down"),
        (replace(COMPUTE, state="unknown"), "the swarm does not know how it is"),
        (replace(COMPUTE, id="3", hostname="b"), "b has no worker"),
    ],
)
def test_what_is_wrong_with_a_node_is_said(endpoints, worker, node, said):
    nodes = (MASTER, node) if node.hostname == "a" else (MASTER, COMPUTE, node)
    found = look(endpoints, replace(FACTS, nodes=nodes))

    assert found.state == "partial"
    assert len(found.problems) == 1
    assert said in found.problems[0]
    assert found.deploy_again == (node.state != "down")


def test_a_node_that_is_down_shows_nothing_of_before_and_how_to_take_it_out(endpoints, worker):
    found = look(endpoints, replace(FACTS, nodes=(MASTER, replace(COMPUTE, state="down"))))

    assert (found.nodes[1].reading, found.nodes[1].slots) == (None, 0)
    assert found.problems[0].endswith("--drain a --lost")


def test_a_keeper_that_could_not_end_the_stack_is_wrong_at_once(endpoints, worker, redis_server):
    def problems(wanted: int = 1) -> tuple[str, ...]:
        services = SERVICES | {"s_keeper": Service("s_keeper", "d", "", wanted, wanted)}
        return look(endpoints, replace(FACTS, services=services)).problems

    said = ending.Announcement(deadline=time.time() + 3601, reason="--ttl", said_at=time.time())
    assert "has not said anything yet" in problems()[0]
    ending.announce(redis_server.client(), said)
    assert problems() == ()
    ending.announce(redis_server.client(), replace(said, problem="401"))
    (cannot,) = problems()
    assert re.fullmatch(r"the stack ends in [^:]+: --ttl; but cannot: 401", cannot)
    ending.announce(redis_server.client(), replace(said, said_at=time.time() - 200))
    assert "the keeper was not heard of for 3 min" in problems()[0]
    assert problems(wanted=0) == ()


def test_a_drained_node_is_no_problem(endpoints, worker):
    found = look(endpoints, replace(FACTS, nodes=(MASTER, replace(COMPUTE, availability="drain"))))

    assert (found.state, found.nodes[1].state) == ("running", "drained")


def test_a_service_that_does_not_run_is_named_with_what_to_do(endpoints, worker):
    services = SERVICES | {"s_influx": Service("s_influx", "d", "", 0, 1)}
    rolled_back = {"s_worker": Service("s_worker", "d", "rollback_completed", 1, 1)}

    found = look(endpoints, replace(FACTS, services=services | rolled_back))

    assert [text.partition(":")[0] for text in found.problems] == ["worker", "influx"]
    assert "--logs influx" in found.problems[1]


@pytest.mark.parametrize(
    ("reading", "said"),
    [
        (replace(READING, disk_free_bytes=14 * GB), "14.0 GB of 100.0 GB left"),
        (replace(READING, memory_used_bytes=int(7.8 * GB)), "its memory is full"),
    ],
)
def test_a_node_that_runs_out_of_room_is_warned_of(endpoints, worker, reading, said):
    worker.reading = reading
    worker.heartbeat(busy=0, current_job="")

    found = look(endpoints)

    assert found.state == "running"
    assert len(found.warnings) == 1
    assert said in found.warnings[0]


def test_the_masters_disk_is_warned_of(endpoints, worker):
    found = look(endpoints, replace(FACTS, disk_free_bytes=10 * GB))

    assert "master's disk has 10.0 GB of 100.0 GB left" in found.warnings[0]


def test_a_full_redis_is_warned_of(endpoints, worker, redis_server):
    client = redis_server.client()
    client.setrange("ballast", 20 << 20, "x")  # beside which the buffers of a connection weigh nothing
    client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.05))

    assert "no job is accepted any more" in look(endpoints).warnings[0]


def test_a_redis_without_memory_is_a_problem(endpoints, worker, redis_server):
    redis_server.client().config_set("maxmemory", 1)

    found = look(endpoints)

    assert "Redis has no memory left: no job is accepted" in found.problems[0]
    assert (found.warnings, [node.busy for node in found.nodes]) == ((), [0, 3])


def test_a_redis_whose_disk_is_full_is_a_problem(gateway, small_disk):
    disk = small_disk(1 << 20)
    server = RedisServer(disk)
    server.start()
    url, ca_file = gateway
    endpoints = Endpoints("s", server.url_of("client"), url, "", "", "", ca_file=ca_file)

    def refused() -> bool:
        try:
            return not server.client().append("cb:ens:text", "x" * 100_000)
        except redis.ResponseError as error:
            return "MISCONF" in str(error)

    try:
        wait_until(refused, 30, "the disk to be full")
        assert any("cannot write to its disk" in problem for problem in look(endpoints).problems)
    finally:
        server.kill()


def test_certificates_that_have_expired_are_said_with_what_helps(endpoints, worker, redis_server, tmp_path):
    authority = Authority.make(tmp_path)
    front = TlsFront(redis_server.port, authority.context("old", "IP:127.0.0.1", expired=True))
    behind_it = endpoints.redis_url.replace("redis://", "rediss://").replace(
        str(redis_server.port), str(front.port)
    )
    found = look(
        replace(
            endpoints,
            redis_url=behind_it,
            filestore_url=f"https://127.0.0.1:{front.port}",
            ca_file=str(authority.certificate),
        )
    )
    front.close()

    assert found.state == "partial"
    assert len(found.problems) == 2
    for problem, service in zip(found.problems, ("Redis at 127.0.0.1", "the gateway, https"), strict=True):
        assert problem.startswith(service)
        assert "it has expired: deploy the stack again, which renews it" in problem


def test_a_certificate_is_warned_of_thirty_days_before(endpoints, worker):
    ends_at = certificate_end(endpoints)

    assert look(endpoints, now=ends_at - 31 * DAY_S).warnings == ()
    assert "expires in 28 days" in look(endpoints, now=ends_at - 29 * DAY_S + 1).warnings[0]


def test_a_gateway_that_is_not_trusted_is_a_problem(endpoints, worker, tmp_path: Path):
    other = SwarmPaths(tmp_path / "other")
    other.make()
    (tmp_path / "ca.pem").write_text(certificates.ensure(other, "s", ["x"]).authority)

    found = look(replace(endpoints, ca_file=str(tmp_path / "ca.pem")))

    assert found.state == "partial"
    assert "is not from this stack's authority" in found.problems[0]


def test_a_redis_that_does_not_answer_is_a_problem_and_all_else_is_shown(endpoints, redis_server):
    redis_server.kill()
    found = look(endpoints)
    redis_server.start()

    assert found.state == "partial"
    assert len(found.problems) == 1
    assert found.problems[0].startswith("Redis at 127.0.0.1:")
    assert [node.name for node in found.nodes] == ["m", "a"]


def test_a_master_that_cannot_be_reached_leaves_what_the_stack_itself_says(endpoints, worker):
    found = look(endpoints, None)

    assert found.state == "partial"
    assert found.problems == ("m: no answer by ssh",)
    assert [(node.name, node.busy) for node in found.nodes] == [("a", 3)]


def test_a_deployment_that_broke_off_is_a_problem():
    assert "deploy again" in look(None).problems[0]


@pytest.mark.parametrize(("count", "said"), [(0, "0 MB"), (120_400_000, "120 MB"), (3_240_000_000, "3.2 GB")])
def test_sizes_are_readable(count, said):
    assert size(count) == said
