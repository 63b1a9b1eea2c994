"""Images that the swarm tests bring along, made once: a base, and Debian's programs for others' images."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.swarm import base, cache, registry

if TYPE_CHECKING:
    from tests.swarm.machines import Farm, Machine

IMAGES = Path(__file__).parent / "images"
BASE = "debian:bookworm-slim"
REGISTRY = "registry:2.8.3"
INFLUX = "cloudburst-tests/influx:1.6.7"
BUILT = {REGISTRY: IMAGES / "registry", INFLUX: IMAGES / "influx1"}


def base_image() -> Path:
    """What stands for Docker's own image of Debian."""
    return cache.made(
        f"base-{base.image_tree().name}", lambda new: registry.from_tree(base.image_tree(), new)
    )


def provide(farm: Farm) -> None:
    """Have the farm's registry serve all of them. Where some have to be built, a machine is made for that."""
    farm.registry.add(BASE, base_image())
    builder: Machine | None = None
    for name, context in BUILT.items():
        path = _cached(context)
        if not path.exists():
            builder = builder or _builder(farm)
            path = _build(builder, context)
        farm.registry.add(name, path)
    if builder is not None:
        builder.remove()


def install_docker(machine: Machine) -> None:
    """Debian's, as an operator would."""
    machine.run(["apt-get", "-q", "update"], timeout_s=300)
    install = ["apt-get", "-q", "install", "-y", "--no-install-recommends", "docker.io"]
    machine.run(["env", "DEBIAN_FRONTEND=noninteractive", *install], timeout_s=300)


def build(machine: Machine, context: Path, name: str, *arguments: str) -> None:
    """`docker build` on this machine, of a folder on this one; apt in it comes through the farm's mirror."""
    archive = subprocess.run(["tar", "-C", str(context), "-c", "."], capture_output=True, check=True).stdout
    proxy = f"http_proxy={machine.mirror_url}"
    build = ["docker", "build", "-q", "--network=host", "--build-arg", proxy, *arguments, "-t", name, "-"]
    machine.run(build, stdin=archive, timeout_s=600)


def _cached(context: Path) -> Path:
    return cache.directory() / f"image-{context.name}-{cache.digest(context, base_image().name)}"


def _builder(farm: Farm) -> Machine:
    machine = farm.machine("builder")
    install_docker(machine)
    return machine


def _build(builder: Machine, context: Path) -> Path:
    def make(new: Path) -> None:
        build(builder, context, context.name)
        builder.run(["docker", "save", "-o", "/tmp/image.tar", context.name], timeout_s=300)
        registry.from_archive(builder.root / "tmp/image.tar", new)

    return cache.made(_cached(context).name, make)
