"""What an attacker tries on a stack: from outside, from a node's network, from inside a job."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.swarm.deployed import NAME, Deployed
from tests.swarm.machines import Farm, Machine
from tests.swarm.process import run
from tests.swarm.scan import open_ports
from tests.wait import wait_until

METADATA = "169.254.169.254"
METADATA_TEXT = "what a cloud tells its machines"
# What a stack leaves where others look: descriptions, histories, logs, command lines.
LOOKED_AT = """
exec 2>/dev/null
docker ps -aq | xargs -r docker inspect
docker images -q | sort -u | xargs -r -n1 docker history --no-trunc
docker images -q | sort -u | xargs -r docker inspect
for kind in service secret node network volume; do
  docker $kind ls -q | xargs -r docker $kind inspect
done
docker config ls -q | xargs -r docker config inspect --pretty
cat /var/lib/docker/containers/*/*-json.log*
find /var/log -type f -exec cat {} +
ps -ewwo args=
cat /etc/docker/daemon.json /etc/cloudburst/*/*.json
cat /root/.bash_history /root/.docker/config.json
true
"""


def test_only_what_is_meant_for_everybody_is_open(swarm: Deployed) -> None:
    with ThreadPoolExecutor() as side_by_side:
        machines = [machine.address for machine in swarm.machines.values()]
        found = list(side_by_side.map(open_ports, machines))

    assert found == [{22, 443, 6380}, {22}, {22}]


def test_nodes_reach_the_ports_between_them(swarm: Deployed) -> None:
    """Else the scan would find nothing on a swarm that does not work, too."""
    master, node, other = swarm.machines.values()

    assert _connects(node, master, 2377)
    assert _connects(node, master, 5000)
    assert _connects(master, node, 7946)
    assert _connects(other, node, 7946)


def test_after_a_boot_nothing_more_is_open(swarm: Deployed) -> None:
    node = swarm.machines["b"]
    node.power_off()
    node.boot()

    assert open_ports(node.address) == {22}


def test_no_secret_can_be_found_where_others_look(swarm: Deployed) -> None:
    secrets = swarm.secrets()
    assert len(secrets) >= 14, sorted(secrets)

    for machine in swarm.machines.values():
        seen = machine.run(["sh", "-c", LOOKED_AT], timeout_s=300).stdout
        assert f"{NAME}_worker" in seen or f"{NAME}_gateway" in seen, "the hunt sees no containers"
        assert [name for name, text in secrets.items() if text in seen] == [], machine.name


def test_no_secret_is_in_an_image_or_in_the_files_of_a_container(swarm: Deployed) -> None:
    for machine in swarm.machines.values():
        found = _files_with(
            machine, swarm.secrets().values(), "/var/lib/docker/overlay2", "/var/lib/docker/image"
        )
        assert found == [], machine.name

    assert _files_with(swarm.machines["a"], ["lease"], "/var/lib/docker/overlay2"), (
        "the hunt finds nothing at all"
    )


def environments(machine: Machine) -> str:
    """Of all processes there; "" if none is of the stack."""
    seen = machine.run(["sh", "-c", "cat /proc/[0-9]*/environ | tr '\\0' '\\n'"], check=False).stdout
    return seen if "CLOUDBURST_" in seen else ""


def test_no_environment_of_a_process_holds_a_secret(swarm: Deployed) -> None:
    # Jobs are given the token to write points with, on purpose.
    secrets = {name: text for name, text in swarm.secrets().items() if name != "influx-write-token"}
    for machine in swarm.machines.values():
        # After a boot the swarm may start a container once more: then none runs, for a moment.
        seen = wait_until(partial(environments, machine), 60, f"processes of the stack on {machine.name}")
        assert [name for name, text in secrets.items() if text in seen] == [], machine.name


def test_the_registry_asks_for_the_nodes_certificate(swarm: Deployed) -> None:
    master, node, _ = swarm.machines.values()
    place = f"/etc/docker/certs.d/{master.address}:5000"
    ask = ["curl", "-sS", "--cacert", f"{place}/ca.crt", f"https://{master.address}:5000/v2/_catalog"]
    # For curl, a password follows the first colon.
    certificate = ["--cert", f"{place}/client.cert".replace(":", r"\:"), "--key", f"{place}/client.key"]

    assert "cloudburst/worker" in node.run([*ask, *certificate]).stdout
    assert "cloudburst/worker" not in node.run(ask, check=False).stdout


class _Metadata(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(METADATA_TEXT.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def metadata(farm: Farm) -> Iterator[str]:
    """A cloud's metadata service in the machines' network; its other address, which nobody forbids."""
    run(["ip", "address", "add", f"{METADATA}/32", "dev", farm.network.name])
    server = HTTPServer(("0.0.0.0", 8169), _Metadata)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield farm.network.gateway
    server.shutdown()
    server.server_close()
    thread.join()
    run(["ip", "address", "delete", f"{METADATA}/32", "dev", farm.network.name])


def test_containers_cannot_ask_the_cloud_about_their_machine(swarm: Deployed, metadata: str) -> None:
    master, node, _ = swarm.machines.values()

    def asked(machine: Machine, service: str, address: str) -> str:
        python = f"import urllib.request as r; print(r.urlopen('http://{address}:8169', timeout=3).read())"
        argv = ["docker", "exec", swarm.container(machine, service), "python3", "-c", python]
        return machine.run(argv, check=False).stdout.strip()

    assert node.run(["curl", "-sS", f"http://{METADATA}:8169"]).stdout == METADATA_TEXT
    for machine, service in ((node, "worker"), (master, "queue-dash"), (master, "filestore")):
        assert METADATA_TEXT in asked(machine, service, metadata)
        assert asked(machine, service, METADATA) == "", service


SNOOPING = """
import glob, os, pathlib, socket, subprocess, time

def readable(path):
    try:
        return bool(pathlib.Path(path).read_bytes()) or True
    except OSError:
        return False

def work(params):
    pathlib.Path("mine").write_text("of this job only")
    if params["wait"]:
        time.sleep(params["wait"])
    status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
    places = ["/var/lib/cloudburst", "/tmp"]
    tops = [top for place in places for top, _, names in os.walk(place) if "mine" in names]
    foreign = [top for top in tops if not top.startswith(os.getcwd())]
    others = [path for path in glob.glob("/proc/[0-9]*/environ") if os.stat(path).st_uid != os.getuid()]
    environs = [path for path in others if readable(path)]
    try:
        os.setuid(0)
        root = True
    except OSError:
        root = False
    return {
        "uid": os.getuid(), "groups": os.getgroups(), "root": root, "cwd": os.getcwd(),
        "capabilities": [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")],
        "no_new_privileges": status["NoNewPrivs"],
        "secrets": [path for path in glob.glob("/run/secrets/*") if readable(path)],
        "foreign": foreign, "environs": environs,
        "environment": dict(os.environ),
    }
"""
NO_CAPABILITIES = "0000000000000000"


@pytest.fixture(scope="module")
def snooped(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What jobs that look around have found, several at a time."""
    payload: Path = tmp_path_factory.mktemp("payload")
    (payload / "worker.py").write_text(SNOOPING)
    (payload / "Pipfile").write_text("[packages]\n")
    jobs = [{"wait": 1 + index % 3} for index in range(8)]
    ensemble = deployed.stack().submit("snooping", payload=payload, function="worker.work", jobs=jobs)
    return [dict(record.value or {}) for record in ensemble.watch(timeout_s=300)]


def test_a_job_runs_as_nobody_in_particular(snooped: list[dict[str, Any]]) -> None:
    assert len(snooped) == 8
    for found in snooped:
        assert 20000 <= found["uid"] <= 29999
        assert (found["groups"], found["root"]) == ([], False)
        assert found["capabilities"] == [NO_CAPABILITIES] * 4
        assert found["no_new_privileges"] == "1"


def test_a_job_finds_no_secret_and_no_other_jobs_files(
    swarm: Deployed, snooped: list[dict[str, Any]]
) -> None:
    secrets = {name: text for name, text in swarm.secrets().items() if name != "influx-write-token"}
    for found in snooped:
        assert (found["secrets"], found["foreign"], found["environs"]) == ([], [], [])
        environment = str(found["environment"])
        assert [name for name, text in secrets.items() if text in environment] == []


def _connects(source: Machine, target: Machine, port: int) -> bool:
    argv = ["timeout", "5", "bash", "-c", f": </dev/tcp/{target.address}/{port}"]
    return source.run(argv, check=False).returncode == 0


def _files_with(machine: Machine, texts: Any, *places: str) -> list[str]:
    argv = ["grep", "-rlFf", "-", "--devices=skip", *places]
    return machine.run(argv, stdin="\n".join(texts).encode(), check=False, timeout_s=300).stdout.splitlines()
