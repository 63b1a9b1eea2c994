"""What each user of the queue may do: over a real Redis with the file of users that a stack has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import NoPermissionError
from rq import Queue
from rq.command import send_stop_job_command
from rq.job import Job
from rq.serializers import JSONSerializer

from cloudburst.ensemble.connection import Connection
from cloudburst.errors import ConfigError, QueueError
from cloudburst.model import EnsembleSpec
from cloudburst.rqwire import acl, activity, ending, nodes, output, readings
from cloudburst.rqwire.appending import Accepted, Appender, Chunk
from cloudburst.rqwire.builds import Builds, Lease
from cloudburst.rqwire.held import held
from cloudburst.rqwire.leases import Leases, Loss, Outcome
from cloudburst.rqwire.workers import Registration, queue_depth, workers
from tests.conftest import RedisServer

PASSWORDS = {role: f"the {role}'s own" for role in acl.ROLES if role != "health"}
SOURCES = resources.files("cloudburst") / "rqwire"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    users = tmp_path / "users.acl"
    users.write_text(acl.users_file(PASSWORDS))
    server = RedisServer(tmp_path)
    server.login = f"operator:{PASSWORDS['operator']}"
    server.start("--aclfile", str(users))
    yield server
    server.kill()


def user(server: RedisServer, role: str) -> redis.Redis:
    return redis.Redis(port=server.port, username=role, password=PASSWORDS.get(role))


def url(server: RedisServer, role: str) -> str:
    return f"redis://{role}:{PASSWORDS[role]}@127.0.0.1:{server.port}/0".replace(" ", "%20")


def test_client_and_workers_do_all_they_have_to_under_their_own_users(server: RedisServer) -> None:
    client = Connection(url(server, "client"))
    ensembles = client.ensembles
    worker = user(server, "worker")
    leases = Leases(worker, queue="default", worker="w1", node="n1", lease_s=30)
    registration = Registration(worker, name="w1", queue="default", node="n1", slots=2)

    registration.heartbeat(busy=0, current_job="")
    registration.forget_expired()
    ensemble = _submitted(client, 6)
    one, two, three, four, five, six = leases.claim(6)
    assert leases.beat([one, two]) == set()
    output.publish(worker, one.job_id, b"so far")
    assert output.read(client.redis, one.job_id) == "so far"
    finished = leases.finish([Outcome(one, "finished", 1.0, 1.0, value=b"1"), _failed(two), _failed(three)])
    assert finished == ["recorded"] * 3
    assert leases.give_back([Loss(four), Loss(five, "lost"), Loss(six, "lost")]) == ["returned"] * 3
    assert leases.abandon("w0") == []
    leases.reap()
    assert leases.open()
    assert ensembles.retry(ensemble) == 2
    assert ensembles.status(ensemble).waiting == 5
    ensembles.upgrade(ensemble, "d" * 64)
    assert [record.value for record in ensembles.all_records(ensemble)] == [1]
    leases.finish([_failed(leases.claim(1)[0])])
    assert len(list(ensembles.failures(ensemble))) == 1
    assert len(workers(client.redis)) == 1
    assert ensembles.cancel(ensemble) == 4
    assert queue_depth(client.redis) == 0
    assert client.ledger.everything().breach_count == 0
    lease = Builds(worker, "n1", 10).take("an environment")
    assert isinstance(lease, Lease)
    Builds(worker, "n1", 10).without_room("an environment", "w1")
    assert Builds(worker, "n1", 10).look("an environment") is not None
    lease.release()
    registration.death()
    assert server.refused() == set()


def test_a_restart_reads_all_that_was_written_by_scripts(server: RedisServer, tmp_path: Path) -> None:
    leases = Leases(user(server, "worker"), queue="default", worker="w1", node="n1", lease_s=30)
    _submitted(Connection(url(server, "client")), 3)
    leases.finish([Outcome(leases.claim(1)[0], "finished", 1.0, 1.0, value=b"1")])
    before = _everything(user(server, "operator"))

    server.kill()
    server.start("--aclfile", str(tmp_path / "users.acl"))

    assert _everything(user(server, "operator")) == before
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=server.port).ping()


def _everything(operator: redis.Redis) -> dict[bytes, bytes]:
    return {key: operator.dump(key) for key in operator.scan_iter(count=1000)}


def test_stock_clients_work_as_the_user_client(server: RedisServer) -> None:
    client = user(server, "client")
    queue = Queue(connection=client, serializer=JSONSerializer)

    first = queue.enqueue("worker.work", {"seed": 1}, retry=None, meta={"a": 1})
    second = queue.enqueue("worker.work", {"seed": 2}, depends_on=first)
    queue.enqueue_many([Queue.prepare_data("worker.work", ({"seed": 3},))])
    assert Job.fetch(first.id, connection=client, serializer=JSONSerializer).get_status() == "queued"
    second.cancel()
    first.delete()
    assert queue.count == 1
    queue.empty()

    assert server.refused() == set()


def test_orders_reach_workers(server: RedisServer) -> None:
    registration = Registration(user(server, "worker"), name="w1", queue="default", node="n1", slots=1)
    registration.heartbeat(busy=1, current_job="j")
    listening = user(server, "worker").pubsub(ignore_subscribe_messages=True)
    listening.subscribe("rq:pubsub:w1")
    listening.get_message(timeout=5)

    send_stop_job_command_as = Job.create("worker.work", id="j", connection=user(server, "client"))
    send_stop_job_command_as.worker_name = "w1"
    send_stop_job_command_as.set_status("started")
    send_stop_job_command_as.save()
    send_stop_job_command(user(server, "client"), "j")

    message = listening.get_message(timeout=5)
    assert message is not None
    assert b"stop-job" in message["data"]


COMMON = [
    ("CONFIG", "GET", "*"),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("KEYS", "*"),
    ("SHUTDOWN",),
    ("ACL", "LIST"),
    ("ACL", "WHOAMI"),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "ID", "1"),
    ("MONITOR",),
    ("SAVE",),
    ("REPLICAOF", "127.0.0.1", "1"),
    ("MODULE", "LIST"),
    ("SCRIPT", "FLUSH"),
    ("SCRIPT", "KILL"),
    ("SORT", "rq:x"),
    ("MIGRATE", "127.0.0.1", "1", "rq:x", "0", "1"),
    ("RESTORE", "rq:x", "0", "x"),
    ("GET", "others"),
    ("SET", "others", "1"),
    ("EVAL", "return redis.call('GET', 'others')", "0"),
    ("EVAL", "return redis.call('KEYS', '*')", "0"),
    ("RENAME", "rq:x", "others"),
    ("COPY", "others", "rq:x"),
]
OWN = [
    ("client", "SUBSCRIBE", "rq:pubsub:w1"),
    ("client", "PUBLISH", "others", "x"),
    ("client", "HSET", "cb:nodes", "n1", "{}"),
    ("client", "DEL", "cb:build:x"),
    ("client", "PFADD", "cb:ens:x:tag:run", "1"),
    ("worker", "SCAN", "0"),
    ("worker", "PUBLISH", "rq:pubsub:w1", "x"),
    ("worker", "SUBSCRIBE", "others"),
    ("worker", "PSUBSCRIBE", "*"),
    ("worker", "DEL", "cb:ensembles"),
    ("worker", "PFADD", "others", "1"),
    ("worker", "PFMERGE", "cb:ens:x:tag:run", "cb:ens:x:tag:gauge"),
    ("dash", "SET", "rq:x", "1"),
    ("dash", "DEL", "rq:x"),
    ("dash", "EVAL", "return 1", "0"),
    ("dash", "GET", "cb:ens:x"),
    ("dash", "SCAN", "0"),
    ("observer", "SET", "cb:x", "1"),
    ("observer", "HDEL", "cb:nodes", "n1"),
    ("observer", "EVAL", "return 1", "0"),
    ("client", "HGETALL", "cb:keeper"),
    ("client", "HSET", "cb:keeper", "busy_at", "0"),
    ("worker", "HSET", "cb:ending", "stage", "removing"),
    ("keeper", "SET", "cb:x", "1"),
    ("keeper", "DEL", "rq:queue:default"),
    ("keeper", "LPUSH", "rq:queue:default", "x"),
    ("keeper", "EVAL", "return redis.call('DEL', 'rq:x')", "0"),
    ("keeper", "HSET", "others", "a", "b"),
]


@pytest.mark.parametrize("role", ["client", "worker", "dash", "observer", "keeper", "health"])
def test_nobody_but_the_operator_may_do_what_is_dangerous(server: RedisServer, role: str) -> None:
    for command in COMMON:
        _assert_refused(server, role, *command)


def test_each_role_may_do_no_more_than_it_needs(server: RedisServer) -> None:
    for role, *command in OWN:
        _assert_refused(server, role, *command)


def test_the_operator_may_do_everything(server: RedisServer) -> None:
    operator = user(server, "operator")

    assert operator.config_get("appendonly") == {"appendonly": "yes"}
    assert operator.keys("*") == []


def test_without_a_password_only_the_health_check_gets_in(server: RedisServer) -> None:
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=server.port).ping()
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=server.port, username="client", password="guessed").ping()

    health = redis.Redis(port=server.port, username="health", password="any")

    assert health.ping()


def test_the_observer_reads_all_that_it_shows(server: RedisServer) -> None:
    nodes.set_draining(user(server, "operator"), "n1", True)
    observer = user(server, "observer")

    assert nodes.read_all(observer) == {"n1": nodes.Wishes(draining=True)}
    assert observer.info("memory")["used_memory"] > 0
    assert queue_depth(observer) == 0
    assert workers(observer) == []
    assert readings.read(observer, "default")[0].waiting == 0
    assert readings.read(user(server, "client"), "default")[0].waiting == 0  # for the status of a stack


def test_the_keeper_and_clients_speak_about_the_end(server: RedisServer) -> None:
    keeper, client = user(server, "keeper"), user(server, "client")

    ending.announce(keeper, ending.Announcement("collecting", name="e1"))
    ending.remember(keeper, ending.Memory(drained=("n1",)))
    nodes.set_draining(keeper, "n1", True)
    assert ending.read(client) == ending.Announcement("collecting", name="e1")
    ending.watch(client, "laptop", "e1")
    ending.watch(client, "gone")
    ending.leave(client, "gone")
    assert {name: (one.there, one.collected) for name, one in ending.watchers(keeper).items()} == {
        "laptop": (True, "e1")
    }
    assert ending.recall(keeper).drained == ("n1",)
    assert not activity.read(keeper, "default").busy
    assert held(keeper) == []
    assert workers(keeper) == []
    ending.touch(user(server, "operator"))
    assert ending.recall(keeper).busy_at > 1e9
    assert server.refused() == set()


def test_who_lacks_rights_is_told_so(server: RedisServer) -> None:
    connection = Connection(url(server, "client"))

    with pytest.raises(QueueError, match="does not let the user 'client' do that") as failure:
        connection.patiently(connection.redis.config_get, "*")

    assert PASSWORDS["client"] not in str(failure.value)


def test_passwords_are_digests_in_the_file() -> None:
    text = acl.users_file({"client": "open sesame"})

    assert "open sesame" not in text
    assert [line.split()[1] for line in text.splitlines()] == ["default", "health", "client"]


@pytest.mark.parametrize("passwords", [{"clients": "x"}, {"client": ""}, {"health": "x"}])
def test_roles_that_there_are_not_are_refused(passwords: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="queue users"):
        acl.users_file(passwords)


def test_every_key_of_ours_is_somebodys() -> None:
    """A new key or command that no role has would fail on swarms only."""
    sources = [*SOURCES.iterdir(), *(SOURCES / "lua").iterdir()]
    texts = [path.read_text() for path in sources if path.name.endswith((".py", ".lua"))]
    prefixes = {key for text in texts for key in re.findall(r"['\"](cb:[a-z]+:?)", text)} - {"cb:"}
    allowed = {word[1:].rstrip("*") for role in ("client", "worker") for word in acl.rules(role)}

    assert prefixes - allowed == {"cb:keeper"}  # by which a stack ends: its keeper's, and the operator's


def test_every_command_of_our_scripts_is_allowed_to_those_who_call_them(server: RedisServer) -> None:
    scripts = [path for path in (SOURCES / "lua").iterdir() if path.name != "ledger_strays.lua"]
    commands = {
        name
        for path in scripts
        for name in re.findall(r"(?:call|read|write|later)\('([A-Z]+)'", path.read_text())
    }
    assert len(commands) > 40
    workers_alone = {"PFADD", "PFCOUNT"}
    for role in ("client", "worker"):
        for name in sorted(commands - workers_alone if role == "client" else commands):
            try:
                user(server, role).execute_command(name)
            except NoPermissionError as error:
                pytest.fail(f"{role}: {error}")
            except redis.ResponseError:
                pass  # it was not given what it needs


def _assert_refused(server: RedisServer, role: str, *command: str) -> None:
    try:
        answer = user(server, role).execute_command(*command)
    except NoPermissionError:
        return
    except redis.ResponseError as error:
        if "The user executing the script" in str(error) or "ACL failure in script" in str(error):
            return  # of what a script called
        pytest.fail(f"{role}: {command}: {error!r} instead of a refusal")
    pytest.fail(f"{role}: {command}: {answer!r}")


def _submitted(client: Connection, count: int) -> str:
    ensemble = client.ensembles.create(EnsembleSpec("e", "worker.work", ""))
    appender = Appender(client.redis, ensemble, "worker.work")
    appender.connect()
    appender.send(Chunk(Accepted(), [b'{"seed":%d}' % seed for seed in range(count)]))
    assert appender.receive().accepted.count == count
    appender.close()
    client.ensembles.seal(ensemble)
    return ensemble


def _failed(claim: Any) -> Outcome:
    return Outcome(claim, "failed", 1.0, 1.0, error="no", fingerprint="f", traceback="no", output=b"out")
