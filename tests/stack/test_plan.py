"""Facts in, steps out."""

from __future__ import annotations

from dataclasses import replace

from cloudburst.commands.command import Command
from cloudburst.hosts.process import Process
from cloudburst.stack.facts import Facts, ServiceFacts
from cloudburst.stack.plan import Plan, plan
from cloudburst.stack.records import SERVICES, Record
from cloudburst.stack.service import Service

PROCESS = Process(pid=7, started_at=1000.0, born_s=100.0)


def service(name: str, **settings: str) -> Service:
    return Service(name=name, command=Command((name,)), settings=settings, ready=lambda _pid: True)


def running(name: str, **settings: str) -> ServiceFacts:
    return ServiceFacts(name, "running", Record(name, PROCESS, 10, settings))


def stack(*there: ServiceFacts, complete: bool = True) -> Facts:
    absent = {name: ServiceFacts(name, "absent") for name in SERVICES}
    return Facts(absent | {facts.name: facts for facts in there}, complete)


ALL = [service(name) for name in SERVICES]
ALL_RUNNING = [running(name) for name in SERVICES]


def names(steps: Plan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return steps.stop, tuple(one.name for one in steps.start)


def test_a_stack_that_is_as_it_should_be_needs_nothing() -> None:
    assert plan(stack(*ALL_RUNNING), ALL).empty


def test_a_new_stack_is_started_in_order() -> None:
    steps = plan(stack(complete=False), ALL)

    assert names(steps) == ((), SERVICES)
    assert (steps.headline, dict(steps.reasons)) == ("", {})


def test_a_half_started_stack_gets_what_it_lacks() -> None:
    steps = plan(stack(running("queue"), running("filestore"), complete=False), ALL)

    assert names(steps) == ((), ("influx", "queue-dash", "worker"))
    assert steps.headline == "half-started stack: queue, filestore there; influx, queue-dash, worker not"


def test_a_killed_service_is_started_again_and_the_others_are_left_alone() -> None:
    killed = ServiceFacts("worker", "killed", Record("worker", PROCESS, 10), "its process was killed")

    steps = plan(stack(*ALL_RUNNING[:4], killed), ALL)

    assert names(steps) == ((), ("worker",))
    assert (steps.headline, dict(steps.reasons)) == ("", {"worker": "its process was killed"})


def test_a_silent_service_is_stopped_first() -> None:
    silent = replace(running("influx"), state="silent", detail="does not answer")

    steps = plan(stack(*ALL_RUNNING, silent), ALL)

    assert names(steps) == (("influx",), ("influx",))
    assert dict(steps.reasons) == {"influx": "does not answer"}


def test_other_settings_restart_only_the_services_that_they_concern() -> None:
    there = [running(name, slots="1") if name == "worker" else running(name) for name in SERVICES]
    wanted = [service(name, slots="2") if name == "worker" else service(name) for name in SERVICES]

    steps = plan(stack(*there), wanted)

    assert names(steps) == (("worker",), ("worker",))
    assert dict(steps.reasons) == {"worker": "slots 1 → 2"}


def test_a_changed_secret_is_named_and_not_shown() -> None:
    there = running("queue", password="0123", port="6379")

    steps = plan(stack(there), [service("queue", password="4567", port="6380")])

    assert dict(steps.reasons) == {"queue": "password changed, port 6379 → 6380"}


def test_services_are_stopped_in_the_opposite_order() -> None:
    steps = plan(stack(*ALL_RUNNING), [service(name, version="2") for name in SERVICES])

    assert names(steps) == (tuple(reversed(SERVICES)), SERVICES)


def test_a_service_that_is_no_longer_wanted_is_stopped() -> None:
    steps = plan(stack(*ALL_RUNNING), [service(name) for name in SERVICES if name != "influx"])

    assert names(steps) == (("influx",), ())
    assert dict(steps.reasons) == {"influx": "no longer wanted"}


def test_strays_are_stopped() -> None:
    steps = plan(replace(stack(*ALL_RUNNING), strays=(PROCESS,)), ALL)

    assert (steps.strays, steps.empty) == ((PROCESS,), False)
