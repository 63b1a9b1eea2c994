"""Images that the swarm tests bring along, made once: a base, and Debian's programs for others' images."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
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
    builders: list[Machine] = []

    def builder() -> Machine:
        if not builders:
            builders.append(farm.machine("builder"))
            install_docker(builders[0])
        return builders[0]

    def made(name: str, made_from: str, build_it: Callable[[str], None]) -> None:
        def make(new: Path) -> None:
            build_it("made")
            builder().run(["docker", "save", "-o", "/tmp/image.tar", "made"], timeout_s=300)
            registry.from_archive(builder().root / "tmp/image.tar", new)

        label = name.partition(":")[0].replace("/", "-")
        farm.registry.add(name, cache.made(f"image-{label}-{made_from}", make))

    for name, context in BUILT.items():
        made_from = cache.digest(context, base_image().name)
        made(name, made_from, lambda tag, context=context: build(builder(), _tar(context), tag))  # type: ignore[misc]

    for machine in builders:
        machine.remove()


def install_docker(machine: Machine) -> None:
    """Debian's, as an operator would."""
    machine.run(["apt-get", "-q", "update"], timeout_s=300)
    install = ["apt-get", "-q", "install", "-y", "--no-install-recommends", "docker.io"]
    machine.run(["env", "DEBIAN_FRONTEND=noninteractive", *install], timeout_s=300)


def build(machine: Machine, context: bytes, name: str, *arguments: str) -> None:
    """`docker build` there, of a tar archive; apt in it comes through the farm's mirror."""
    proxy = f"http_proxy={machine.mirror_url}"
    build = ["docker", "build", "-q", "--network=host", "--build-arg", proxy, *arguments, "-t", name, "-"]
    machine.run(build, stdin=context, timeout_s=600)


def _tar(folder: Path) -> bytes:
    return subprocess.run(["tar", "-C", str(folder), "-c", "."], capture_output=True, check=True).stdout
