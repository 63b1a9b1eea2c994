"""A Debian as a cloud's image has it, made once: every machine's disk at first, and a base for images."""

from __future__ import annotations

import os
from pathlib import Path

from tests.swarm import cache, debian
from tests.swarm.debian import SUITE
from tests.swarm.mirror import Mirror
from tests.swarm.process import run

# In the image that stands for `debian:bookworm-slim`.
IMAGE_PACKAGES = ("ca-certificates",)
# What comes on top on a machine. No Docker: that's for the deployment to install.
MACHINE_PACKAGES = ("openssh-server", "sudo", "iproute2", "iptables", "kmod", "procps", "curl")
DOCUMENTATION = ("/usr/share/doc", "/usr/share/info", "/usr/share/man", "/usr/share/locale")
HERE = Path(__file__).parent
# Those whom this machine trusts beyond Debian's own list: a proxy of its own, maybe.
EXTRA_CERTIFICATES = Path("/usr/local/share/ca-certificates")


def image_tree() -> Path:
    """The root file system of the smallest Debian that can install packages."""
    made_from = cache.digest(SUITE, *IMAGE_PACKAGES, debian.sources(), *DOCUMENTATION, "1")
    return cache.made(f"image-{made_from}", _make_image_tree)


def machine_tree() -> Path:
    """The root file system of a bare machine: SSH, no Docker."""
    made_from = cache.digest(
        image_tree().name, *MACHINE_PACKAGES, HERE / "machine" / "init", *extra_certificates(), "3"
    )
    return cache.made(f"machine-{made_from}", _make_machine_tree)


def extra_certificates() -> list[Path]:
    return sorted(EXTRA_CERTIFICATES.rglob("*.crt"))


def _make_image_tree(tree: Path) -> None:
    with Mirror(cache.directory() / "packages", "127.0.0.1") as mirror:
        mirror_url = f"{mirror.url}/{debian.main()}"
        include = f"--include={','.join(IMAGE_PACKAGES)}"
        run(["debootstrap", "--variant=minbase", include, SUITE, str(tree), mirror_url], timeout_s=900)
    (tree / "etc/apt/sources.list").write_text(debian.sources())
    # As Docker's own small image has it: no documentation, no package lists, no downloaded packages.
    (tree / "etc/dpkg/dpkg.cfg.d/docker").write_text("".join(f"path-exclude {p}/*\n" for p in DOCUMENTATION))
    (tree / "etc/apt/apt.conf.d/docker-clean").write_text(
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };\n'
    )
    for folder in (*DOCUMENTATION, "/var/lib/apt/lists", "/var/cache/apt/archives"):
        for unneeded in (tree / folder.lstrip("/")).glob("*"):
            cache.remove(unneeded)


def _make_machine_tree(tree: Path) -> None:
    run(["cp", "-a", "--reflink=auto", str(image_tree()), str(tree)])
    no_services = tree / "usr/sbin/policy-rc.d"
    _program(no_services, "#!/bin/sh\nexit 101\n")
    (tree / "etc/resolv.conf").write_text(resolv_conf())
    apt = ["chroot", str(tree), "apt-get", "-q"]
    env = {"PATH": os.environ["PATH"], "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    with Mirror(cache.directory() / "packages", "127.0.0.1") as mirror:
        proxy = ["-o", f"Acquire::http::Proxy={mirror.url}"]
        run([*apt, *proxy, "update"], timeout_s=300, env=env)
        install = ["install", "-y", "--no-install-recommends", *MACHINE_PACKAGES]
        run([*apt, *proxy, *install], timeout_s=600, env=env)
    run([*apt, "clean"], env=env)
    no_services.unlink()
    cache.remove(tree / "var/lib/apt/lists")  # a fresh machine has none
    (tree / "etc/apt/apt.conf.d/docker-clean").unlink()  # and a machine keeps what it downloads
    for key in (tree / "etc/ssh").glob("ssh_host_*"):
        key.unlink()  # each machine makes its own
    for certificate in extra_certificates():
        target = tree / EXTRA_CERTIFICATES.relative_to("/") / certificate.name
        target.write_bytes(certificate.read_bytes())
    run(["chroot", str(tree), "update-ca-certificates"], env=env)
    # Debian's start script of Docker raises limits, which not every host lets its machines do.
    (tree / "etc/default/docker").write_text("ulimit() { :; }\n")
    (tree / "etc/dpkg/dpkg.cfg.d/keep-configuration").write_text("force-confold\n")
    # Packages ask for it before they start their services.
    _program(tree / "usr/sbin/runlevel", "#!/bin/sh\necho N 2\n")
    _program(tree / "usr/sbin/init", (HERE / "machine" / "init").read_text())


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def resolv_conf() -> str:
    """This machine's name servers, as others can reach them."""
    behind_stub = Path("/run/systemd/resolve/resolv.conf")
    return (behind_stub if behind_stub.exists() else Path("/etc/resolv.conf")).read_text()
