"""Making a stack what it was when it was backed up."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

from cloudburst.commands import volumes
from cloudburst.errors import StackError
from cloudburst.rqwire import nodes
from cloudburst.rqwire.connection import connect, explained
from cloudburst.rqwire.workers import workers
from cloudburst.stack.paths import write_private
from cloudburst.stack.swarm.saving.folder import Folder
from cloudburst.stack.swarm.saving.manifest import Manifest, Saved
from cloudburst.stack.swarm.saving.site import Service, Site

UID = 10001
"""Of CloudBurst's own processes in their images."""

BASE = "appendonlydir/appendonly.aof.1.base.rdb"
AOF_MANIFEST = "appendonlydir/appendonly.aof.manifest"
"""What Redis 7 starts from: a base file, and the list of the files that its append-only file consists of."""


def restore(site: Site, folder: Folder, *, force: bool = False) -> bool:
    """Replace the queue, the files and the results of the stack by those that were saved.

    Returns whether secrets were replaced too: then the stack has to be deployed again, which gives them to
    its services. Everything is checked before anything is touched: the back-up by its digests (StackError),
    and that no jobs run, unless ``force``. When it breaks off, services stand still; running it again
    starts over.
    """
    manifest = folder.complete()
    folder.verify(manifest)
    services = site.services("queue", "filestore", *manifest.volumes)
    _check(site, folder, manifest, services, force=force)
    changed = _changed_secrets(site, folder, manifest)
    image = services["filestore"].image
    site.say(f"stopping {', '.join(services)}")
    site.stop(services)
    _refill(site, "files", image, lambda archive: _add_files(archive, folder, manifest))
    for name, saved in manifest.volumes.items():
        _replace_volume(site, folder, name, saved, image)
    _refill(site, "queue", image, lambda archive: _add_queue(archive, folder, manifest))
    for name in changed:
        write_private(site.secrets / name, folder.path(manifest.secrets[name]).read_text(encoding="utf-8"))
    # An attempt that broke off has left none of them. A restored database knows secrets that were saved, and
    # its service has others: it is well once the stack is deployed again.
    replicas = {name: max(service.replicas, 1) for name, service in services.items()}
    site.start(replicas, soon=manifest.volumes if changed else ())
    _end_draining(site)
    site.say(f"restored: {', '.join(['queue', f'{len(manifest.files)} files', *manifest.volumes])}")
    return bool(changed)


def _check(
    site: Site, folder: Folder, manifest: Manifest, services: dict[str, Service], *, force: bool
) -> None:
    if force:
        return
    if any(service.replicas for service in services.values()):
        with connect(site.queue_url, ca_file=site.ca_file) as client:
            busy = sum(worker.busy for worker in workers(client))
            version = str(client.info("server")["redis_version"])
        if busy:
            raise StackError(
                f"{busy} jobs of stack {site.stack} are running: wait for them or cancel their ensembles; "
                "--force gives them up"
            )
        if _numbers(version) < _numbers(manifest.redis):
            raise StackError(
                f"{folder.root} was saved from Redis {manifest.redis}, and the stack has {version}, which "
                "cannot read that: deploy a newer one first"
            )
    for name, image in manifest.images.items():
        if _plain(services[name].image) != _plain(image):
            raise StackError(
                f"{folder.root} was saved from {name} {_plain(image)}, and the stack has "
                f"{_plain(services[name].image)}: deploy the same (CLOUDBURST_IMAGE_{name.upper()}), or say "
                "--force if it understands the other's data"
            )


def _end_draining(site: Site) -> None:
    """Who was to leave when the queue was saved is a node that works now, or none."""
    with connect(site.queue_url, ca_file=site.ca_file) as client, explained(site.queue_url, site.ca_file):
        for name, wishes in nodes.read_all(client).items():
            if wishes.draining:
                nodes.set_draining(client, name, draining=False)
                site.say(f"{name} was draining when this was saved; it takes jobs again")


def _changed_secrets(site: Site, folder: Folder, manifest: Manifest) -> list[str]:
    """Those that the restored databases know and the stack does not."""
    return [
        name
        for name, saved in manifest.secrets.items()
        if not (site.secrets / name).is_file()
        or (site.secrets / name).read_bytes() != folder.path(saved).read_bytes()
    ]


def _refill(site: Site, volume: str, image: str, add: Callable[[tarfile.TarFile], None]) -> None:
    site.master.run(volumes.clear(site.volume(volume), image), 600)
    with site.master.piped(volumes.unpack(site.volume(volume), image)) as running:
        with tarfile.open(fileobj=running.stdin, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            add(archive)
        running.stdin.close()
        running.stdout.read()


def _replace_volume(site: Site, folder: Folder, name: str, saved: Saved, image: str) -> None:
    site.master.run(volumes.clear(site.volume(name), image), 600)
    with (
        site.master.piped(volumes.unpack(site.volume(name), image)) as running,
        folder.path(saved).open("rb") as packed,
    ):
        while block := packed.read(1 << 20):
            running.stdin.write(block)
        running.stdin.close()
        running.stdout.read()


def _add_files(archive: tarfile.TarFile, folder: Folder, manifest: Manifest) -> None:
    made: set[str] = set()
    for name, saved in manifest.files.items():
        for parent in _parents(name):
            if parent not in made:
                made.add(parent)
                archive.addfile(_entry(parent, kind=tarfile.DIRTYPE, mode=0o755))
        entry = _entry(name, size=saved.size, mode=0o644)
        entry.mtime = saved.changed_ns // 10**9
        seconds, rest = divmod(saved.changed_ns, 10**9)
        entry.pax_headers = {"mtime": f"{seconds}.{rest:09}"}
        with folder.path(saved).open("rb") as contents:
            archive.addfile(entry, contents)


def _add_queue(archive: tarfile.TarFile, folder: Folder, manifest: Manifest) -> None:
    archive.addfile(_entry("appendonlydir", kind=tarfile.DIRTYPE, mode=0o755))
    with folder.path(manifest.queue).open("rb") as contents:
        archive.addfile(_entry(BASE, size=manifest.queue.size, mode=0o600), contents)
    listed = f"file {BASE.rpartition('/')[2]} seq 1 type b\n".encode()
    archive.addfile(_entry(AOF_MANIFEST, size=len(listed), mode=0o600), io.BytesIO(listed))


def _entry(name: str, *, kind: bytes = tarfile.REGTYPE, size: int = 0, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.mode = kind, size, mode
    entry.uid = entry.gid = UID
    return entry


def _parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")[:2]]


def _plain(image: str) -> str:
    """The image's name and tag without registry and digest."""
    return image.partition("@")[0].rpartition("/")[2]
