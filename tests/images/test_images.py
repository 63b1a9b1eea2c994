"""What holds for every image."""

from __future__ import annotations

import re

import pytest

from tests.images.engine import IMAGES, Engine, buildkit_clients
from tests.swarm import base

MB = 10**6
LARGEST = {
    "worker": 290 * MB,
    "filestore": 60 * MB,
    "queue-dash": 85 * MB,
    "queue": 40 * MB,  # with Python, which looks through the append-only file
    "gateway": 15 * MB,  # with curl and jq, by which the database makes its tokens
}
"""Beyond the base image, which all of them share."""


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_small(engine: Engine, name: str) -> None:
    base_size = engine.inspect(f"cloudburst-tests/base:{base.image_tree().name}")["Size"]

    assert engine.inspect(f"cloudburst-tests/{name}")["Size"] - base_size < LARGEST[name]


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_runs_as_nobody_special_and_says_how_it_is(engine: Engine, name: str) -> None:
    image = f"cloudburst-tests/{name}"
    config = engine.inspect(image)["Config"]

    assert engine.docker("run", "--rm", "--network=none", "--entrypoint=id", image, "-u").strip() == "10001"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    # Nothing in it belongs to that user but its home and what is to be a volume.
    find = ["/", "-xdev", "-user", "10001", "-not", "-path", "/proc/*", "-not", "-path", "/home/cloudburst*"]
    owned = engine.docker("run", "--rm", "--network=none", "--user=0", "--entrypoint=find", image, *find)
    assert set(owned.split()) <= set(config.get("Volumes") or {})


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_holds_no_secret(engine: Engine, name: str) -> None:
    image = f"cloudburst-tests/{name}"
    history = engine.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    variables = engine.inspect(image)["Config"]["Env"]
    # given: private keys as they are written into files; packages bring some to be tested with
    search = "grep -rlI -e '-----BEGIN [A-Z ]*PRIVATE KEY' /etc /home /opt/cloudburst /var /root /srv || true"

    found = engine.docker("run", "--rm", "--network=none", "--user=0", "--entrypoint=sh", image, "-c", search)

    assert [line for line in found.split() if "/site-packages/" not in line] == []
    assert not re.search(r"(?i)(password|token|secret)[A-Z_]*=", history)
    assert not [
        line for line in variables if re.search(r"(?i)(password|token|secret|proxy)", line.partition("=")[0])
    ]


@pytest.mark.parametrize("name", ["worker", "filestore", "queue-dash"])
def test_the_environment_is_complete_and_compiled(engine: Engine, name: str) -> None:
    image = f"cloudburst-tests/{name}"
    module = {"worker": "worker.supervisor", "filestore": "filestore.app", "queue-dash": "queue_dash.app"}[
        name
    ]
    program = (
        f"import sys, cloudburst.{module};"
        "bare = [m.__name__ for m in sys.modules.values() if (c := getattr(m, '__cached__', None))"
        " and not __import__('os').path.exists(c)];"
        "print(bare)"
    )

    run = ["run", "--rm", "--network=none", "--entrypoint=python", image, "-P", "-c", program]

    assert engine.docker(*run).strip() == "[]"


def test_an_image_is_the_same_by_buildkit(engine: Engine) -> None:
    clients = buildkit_clients()
    if not clients:
        pytest.skip("no client of Docker here can build with BuildKit: install buildx, or Docker 20.10")

    built = engine.inspect(engine.build_with_buildkit("queue", clients[0]))
    legacy = engine.inspect("cloudburst-tests/queue")

    assert "# buildkit" in engine.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", built["Id"])
    for what in ("Entrypoint", "Cmd", "User", "ExposedPorts", "Volumes", "Healthcheck", "Env", "WorkingDir"):
        assert (built["Config"].get(what) or None) == (legacy["Config"].get(what) or None), what
    list_files = "find / -xdev -not -path '/proc*' -not -path '/sys*' -type f -printf '%p %m %U\\n' | sort"
    run = ["run", "--rm", "--network=none", "--user=0", "--entrypoint=sh"]
    files = [engine.docker(*run, one["Id"], "-c", list_files) for one in (built, legacy)]
    assert files[0] == files[1]
