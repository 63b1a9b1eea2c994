"""What a machine says of its images; docker is a stand-in that prints what Docker 29.1 does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from cloudburst.commands import docker, machine
from cloudburst.stack.swarm import facts

ADDRESS = "10.0.0.1:5000"
BUILT = "sha256:3f0c0f1c9f3b5cbb3a8e0f6e6a1f6d0a7a3f0d3c3d5a3d9c1b7e2a9f4c6d8e01"
"""With containerd's image store the ID of an image is its digest, and stands there before any push."""

PUSHED = "sha256:aa11"

DOCKER = f"""#!/bin/sh
case "$1 $2" in
"--version ") echo "Docker version 29.1.3, build f52814d" ;;
"version --format") echo 29.1.3 ;;
"inspect --format") echo "true registry:2.8.3" ;;
"image ls")
  case "$*" in
  *Digest*)
    echo "{ADDRESS}/cloudburst/worker:12 {BUILT} {BUILT}"
    echo "{ADDRESS}/cloudburst/queue:34 {BUILT} {BUILT}"
    ;;
  *)
    echo "{ADDRESS}/cloudburst/worker:12 {BUILT}"
    echo "{ADDRESS}/cloudburst/queue:34 {BUILT}"
    ;;
  esac
  ;;
"exec cloudburst-s-registry")
  case "$4" in
  /var/lib/registry/docker/registry/v2/repositories/cloudburst/queue/_manifests/tags/34/current/link)
    printf {PUSHED} ;;
  *) echo "cat: $4: No such file or directory" >&2; exit 1 ;;
  esac
  ;;
"info --format") echo "{{}}" ;;
esac
"""


def test_an_image_that_was_only_built_is_not_taken_for_one_in_the_registry(tmp_path: Path) -> None:
    stand_in = tmp_path / "docker"
    stand_in.write_text(DOCKER)
    stand_in.chmod(0o755)
    command = machine.facts("s")
    done = subprocess.run(
        command.argv,
        input=command.stdin,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )

    found = facts.parse(done.stdout)

    assert found.docker == "29.1.3"
    assert found.images == {
        f"{ADDRESS}/cloudburst/worker:12": (BUILT, ""),
        f"{ADDRESS}/cloudburst/queue:34": (BUILT, PUSHED),
    }


def test_the_registry_is_asked_by_name_and_tag_also_at_an_address_of_ipv6() -> None:
    command = docker.registry_digest("cloudburst-s-registry", "[fd00::1]:5000/cloudburst/worker:12")
    assert command.argv[-1].endswith("/repositories/cloudburst/worker/_manifests/tags/12/current/link")
