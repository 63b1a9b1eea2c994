"""Life with nodes: they leave, join, get lost and come back; the worker's image changes; the master reboots;
what was saved is restored. Nothing that was accepted is ever lost, and each job has one record."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import redis

from cloudburst.commands.docker import STACK_LABEL
from cloudburst.ensemble.ensemble import Ensemble
from cloudburst.errors import QueueError
from cloudburst.rqwire.nodes import set_draining
from cloudburst.stack.swarm import operator
from tests.swarm.conftest import Measured
from tests.swarm.deployed import LEASE_S, NAME, Deployed, records, repeated
from tests.swarm.machines import Machine
from tests.wait import wait_until

MARGIN_S = 5.0
"""Jobs of a lost node run elsewhere within the lease and so much more, where all machines share two CPUs."""


def nodes(swarm: Deployed) -> dict[str, str]:
    """State of each node of the swarm, by its name."""
    listed = swarm.master.run(["docker", "node", "ls", "--format", "{{.Hostname}} {{.Status}}"]).stdout
    return dict(line.split() for line in listed.splitlines())


def wait_for_jobs_on(swarm: Deployed, node: str, count: int = 1) -> None:
    wait_until(lambda: swarm.workers()[node].busy >= count, 120, f"{count} jobs on {node}")


def on(ensemble: Ensemble, node: str) -> set[int]:
    """Indices of the jobs that have ended on that node so far."""
    return {record.index for record in ensemble.results() if record.node == node}


def wait_for_a_job_done_by(swarm: Deployed, node: str) -> None:
    """There are more jobs than the others could take before this node has made itself ready."""
    ensemble = swarm.submit(200, 1)
    wait_until(lambda: on(ensemble, node), 120, f"a job done by {node}")
    ensemble.cancel()
    ensemble.wait(60)


def test_a_drained_node_ends_its_jobs_then_leaves_and_joins_again(swarm: Deployed) -> None:
    ensemble = swarm.submit(8, 4)
    wait_for_jobs_on(swarm, "b")

    said = swarm.run("drain", "b")
    ran_there = on(ensemble, "b")

    assert "b: takes no new jobs" in said
    assert "b: 1 job still runs" in said
    assert "b is not part of stack swarm any more" in said
    assert ran_there
    assert set(nodes(swarm)) == {"m", "a"}
    b = swarm.machines["b"]
    places = "/etc/cloudburst /etc/docker/certs.d/* /usr/local/lib/cloudburst"
    assert b.run(["sh", "-c", f"ls -d {places}"], check=False).stdout == ""
    assert "inactive" in b.run(["docker", "info", "--format", "{{.Swarm.LocalNodeState}}"]).stdout
    assert b.run(["docker", "ps", "--all", "--quiet"]).stdout == ""
    assert "CLOUDBURST" not in b.run(["iptables-save"]).stdout
    assert b.address not in swarm.master.run(["cat", "/usr/local/lib/cloudburst/firewall"]).stdout

    ensemble.wait(120)
    assert not list(repeated(records(ensemble)))

    swarm.run("up")

    swarm.wait_for_workers("a", "b")
    wait_for_a_job_done_by(swarm, "b")


def test_a_drain_that_takes_too_long_can_be_gone_on_with_or_undone(swarm: Deployed) -> None:
    ensemble = swarm.submit(4, 12)
    wait_for_jobs_on(swarm, "a")

    late = swarm.run("drain", "a", "--timeout", "2", check=False)

    assert "--undrain a" in late
    assert swarm.workers()["a"].state == "draining"

    going_on = swarm.start("drain", "a")
    assert going_on.stdout is not None
    assert "takes no new jobs" in going_on.stdout.readline()
    going_on.send_signal(signal.SIGINT)
    said, _ = going_on.communicate(timeout=30)

    assert going_on.returncode == 130
    assert "--undrain a" in said

    swarm.run("undrain", "a")

    swarm.wait_for_workers("a", "b")
    ensemble.wait(120)
    assert not list(repeated(records(ensemble)))


def test_who_may_not_leave_is_told_why(swarm: Deployed) -> None:
    assert "m is the master" in swarm.run("drain", "m", check=False)
    assert "there are" in swarm.run("drain", "nobody", check=False)
    assert "not lost" in swarm.run("drain", "a", "--lost", check=False)
    assert "still part of stack swarm" in swarm.run("up", hosts="m,a", check=False)


def test_jobs_of_a_node_without_power_run_elsewhere_and_it_comes_back(
    swarm: Deployed, measured: Measured
) -> None:
    ensemble = swarm.submit(6, 6)
    wait_for_jobs_on(swarm, "b")
    wait_for_jobs_on(swarm, "a")
    lost_at = time.time()
    swarm.machines["b"].power_off()

    ensemble.wait(180)
    found = records(ensemble)
    (again,) = repeated(found)
    measured("a node lost its power, and the other was busy: its job runs again", again.started_at - lost_at)
    swarm.machines["b"].boot()

    swarm.wait_for_workers("a", "b")
    wait_for_a_job_done_by(swarm, "b")
    assert records(ensemble) == found


def test_a_lost_job_starts_within_the_lease_where_a_slot_is_free(swarm: Deployed, measured: Measured) -> None:
    ensemble = swarm.submit(1, 8)
    node = wait_until(
        lambda: next((node for node, worker in swarm.workers().items() if worker.busy), ""), 60, "a start"
    )
    swarm.machines[node].cut_network()
    cut_at = time.time()
    try:
        ensemble.wait(120)
    finally:
        swarm.machines[node].mend_network()

    (record,) = records(ensemble)
    waited = record.started_at - cut_at
    measured(f"a node lost its network, lease {LEASE_S:g} s: its job runs on the other", waited)
    assert record.node != node
    assert record.attempt == 2
    assert waited < LEASE_S + MARGIN_S, "the promise is lease + 2 s, on machines with CPUs of their own"
    swarm.wait_for_workers("a", "b")
    # What the cut-off node did meanwhile is stale.
    assert records(ensemble) == [record]


def test_a_node_that_is_lost_for_good_is_taken_out_and_may_come_back_bare(swarm: Deployed) -> None:
    b = swarm.machines["b"]
    b.power_off()
    wait_until(lambda: nodes(swarm)["b"] == "Down", 60, "the swarm to notice")
    assert "--lost" in swarm.run("drain", "b", check=False)
    without_it = swarm.run("up", check=False)
    assert "deployed, but not on b" in without_it
    assert b.address in swarm.master.run(["cat", "/usr/local/lib/cloudburst/firewall"]).stdout

    swarm.run("drain", "b", "--lost")

    assert set(nodes(swarm)) == {"m", "a"}
    assert b.address not in swarm.master.run(["cat", "/usr/local/lib/cloudburst/firewall"]).stdout
    b.boot()
    assert "docker swarm leave" in swarm.run("up", check=False)
    b.run(["docker", "swarm", "leave", "--force"])
    swarm.run("up")
    swarm.wait_for_workers("a", "b")


def test_everything_comes_back_when_the_master_does(swarm: Deployed, measured: Measured) -> None:
    ensemble = swarm.submit(8, 3)
    wait_until(lambda: ensemble.status().finished >= 2, 60, "first results")
    done = {record.index for record in ensemble.results()}

    swarm.master.power_off()
    swarm.master.boot()
    began = time.monotonic()
    wait_until(lambda: answers(swarm), 300, "the queue to answer")
    measured("the master had a power cut: the queue answers after boot", time.monotonic() - began)

    ensemble.wait(300)
    found = records(ensemble)
    assert done <= {record.index for record in found if record.attempt == 1}
    swarm.wait_for_workers("a", "b")
    assert "nothing to do" in swarm.run("up")


def answers(swarm: Deployed) -> bool:
    try:
        return bool(swarm.stack().workers())
    except (QueueError, redis.RedisError):
        return False


def test_what_was_saved_is_restored_on_a_stack_that_lost_everything(swarm: Deployed, tmp_path: Path) -> None:
    # given: results, and a back-up in the middle of another ensemble
    complete = swarm.submit(4, 0.1, "complete")
    complete.wait(120)
    results = records(complete)
    halfway = swarm.submit(12, 3, "halfway")
    wait_until(lambda: halfway.status().finished >= 2, 60, "first results")
    said = swarm.run("backup", str(tmp_path / "saved"))
    assert "queue: " in said
    recorded = {record.index for record in halfway.results() if record.attempt}
    with operator.queue(swarm.environ, NAME) as queue:
        set_draining(queue, "b", draining=True)
        again = swarm.run("backup", str(tmp_path / "saved"))
        set_draining(queue, "b", draining=False)
    assert "files: 0 fetched" in again
    halfway.wait(120)

    # given: a container that has ended, of a task that the swarm has forgotten
    b = swarm.machines["b"]
    image = b.run(["docker", "image", "ls", "--quiet"]).stdout.split()[0]
    b.run(["docker", "create", "--label", f"{STACK_LABEL}={NAME}", image])

    # when: the stack is taken down, its data and its secrets are gone, and another one takes its place
    swarm.run("down", "--yes")
    for machine in swarm.machines.values():
        remove_volumes(machine)
    for secret in (Path(swarm.environ["CLOUDBURST_HOME"]) / "swarm" / "secrets").iterdir():
        if secret.name.startswith(("redis-", "influx-", "filestore-")):
            secret.unlink()
    swarm.run("up")
    assert swarm.stack().ensembles() == []
    said = swarm.run("restore", str(tmp_path / "saved"), "--yes")

    # then
    assert "deploying again with the passwords that were saved" in said
    assert "b was draining when this was saved; it takes jobs again" in said
    swarm.wait_for_workers("a", "b")
    found = {ensemble.name: ensemble for ensemble in swarm.stack().ensembles()}
    assert records(found["complete"]) == results
    found["halfway"].wait(180)
    after = records(found["halfway"])
    assert recorded & {record.index for record in after}
    swarm.submit(4, 0.1, "afterwards").wait(120)


def remove_volumes(machine: Machine) -> None:
    """The engine lets go of the volumes of a container a moment after that has gone."""
    volumes = "docker volume ls -q --filter name=swarm_"
    remove = ["sh", "-c", f"{volumes} | xargs -r docker volume rm"]
    wait_until(lambda: machine.run(remove, check=False).returncode == 0, 60, "volumes to be removed")


def test_a_restore_needs_leave_to_give_up_jobs_and_a_back_up_that_is_whole(
    swarm: Deployed, tmp_path: Path
) -> None:
    folder = tmp_path / "saved"
    swarm.run("backup", str(folder))
    swarm.submit(2, 60)
    wait_for_jobs_on(swarm, "a")

    assert "jobs of stack swarm are running" in swarm.run("restore", str(folder), "--yes", check=False)

    largest = max((folder / "objects").iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(b"")
    assert "is damaged" in swarm.run("restore", str(folder), "--yes", check=False)
    (folder / "manifest.json").unlink()
    assert "never completed" in swarm.run("restore", str(folder), "--yes", check=False)


def test_a_back_up_that_is_killed_leaves_the_one_before(swarm: Deployed, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    swarm.run("backup", str(folder))
    before = (folder / "manifest.json").read_bytes()

    breaking_off = swarm.start("backup", str(folder))
    assert breaking_off.stdout is not None
    assert "queue" in breaking_off.stdout.readline()
    breaking_off.kill()
    breaking_off.communicate(timeout=30)

    assert (folder / "manifest.json").read_bytes() == before
    swarm.run("up")  # influx may stand still
    swarm.run("backup", str(folder))
    assert (folder / "manifest.json").read_bytes() != before


def test_another_version_of_the_worker_rolls_out_under_an_ensemble(swarm: Deployed, tmp_path: Path) -> None:
    # The last one here: the other version stays.
    before = {worker.name for worker in swarm.workers().values()}
    ensemble = swarm.submit(200, 2)
    other = Deployed(swarm.farm, list(swarm.machines.values()), swarm.variant(tmp_path))

    other.run("up")

    after = {worker.name for worker in swarm.workers().values()}
    assert not before & after, "these are of the old version still"
    assert ensemble.status().waiting, "too few jobs for this test"
    ensemble.cancel()
    ensemble.wait(120)
    found = list(ensemble.results())
    assert not list(repeated(found)), "jobs of 2 s end within the grace period"
    assert not ensemble.audit().breach_count
