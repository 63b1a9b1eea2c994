"""Saving a stack while it works. Nothing is copied on the master's disk, which may be full."""

from __future__ import annotations

import io
import re
import tarfile
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import BinaryIO, cast

from cloudburst import names
from cloudburst.commands import queue_dump, volumes
from cloudburst.errors import StackError
from cloudburst.hosts.host import Piped
from cloudburst.rqwire.connection import connect
from cloudburst.stack.swarm import operator
from cloudburst.stack.swarm.saving.folder import Folder
from cloudburst.stack.swarm.saving.manifest import Manifest, Saved, SavedFile
from cloudburst.stack.swarm.saving.site import WITH_VOLUMES, Service, Site

DATA_SECRETS = ("influx-token", "influx-password", "grafana-password")
"""InfluxDB and Grafana keep these in their volumes: only who knows them can use what is restored."""

_DONE = re.compile(r"success after (\d+) bytes")


def backup(site: Site, folder: Folder, *, with_secrets: bool = False) -> Manifest:
    """Save the queue, the file store and the results into ``folder``, and the passwords that these contain.

    ``with_secrets``: all secrets and certificates of the stack, too. After a restore of these, clients find
    their endpoints as they were.

    First the queue, then the files that its jobs name, then results: whatever comes later belongs to jobs
    that run again after a restore, and overwrites its own. InfluxDB stands still while it is copied;
    workers keep their points until it is back.
    """
    with folder.held():
        last = folder.last()
        began_at = time.time()
        services = site.services("filestore", *WITH_VOLUMES)
        image = services["filestore"].image
        queue = _queue(site, folder)
        files = _files(site, folder, image, last.files if last else {})
        saved = {name: _volume(site, folder, name, services[name], image) for name in _whole(site, services)}
        manifest = Manifest(
            stack=site.stack,
            began_at=began_at,
            cloudburst=names.VERSION,
            redis=_redis_version(site),
            queue=queue,
            files=files,
            volumes=saved,
            images={name: services[name].image for name in saved},
            secrets=_secrets(site, folder, every=with_secrets),
        )
        folder.finish(manifest)
    return manifest


def _queue(site: Site, folder: Folder) -> Saved:
    command = queue_dump.dump(site.container("queue"), operator.USER, site.operator_password)
    with site.master.piped(command) as running:
        saved = folder.store(running.stdout, size=lambda: _rdb_bytes(running))
    site.say(f"queue: {_size(saved.size)}")
    return saved


def _rdb_bytes(running: Piped) -> int:
    """How much of what redis-cli has printed is the file; a mark of 40 bytes may be behind it."""
    deadline = time.monotonic() + 5
    while not (found := _DONE.search(running.complaints())):
        # Its last line comes after the last byte of the file, and by another way.
        if time.monotonic() > deadline:
            raise StackError(f"the queue was not copied to its end: {running.complaints()}")
        time.sleep(0.05)
    return int(found[1])


def _files(site: Site, folder: Folder, image: str, last: Mapping[str, SavedFile]) -> dict[str, SavedFile]:
    """The file store's files: those that are in the folder already are not fetched again."""
    with site.master.piped(volumes.listing(site.volume("files"), image)) as running:
        listed = [entry.split(b" ", 2) for entry in running.stdout.read().split(b"\0") if entry]
    kept, wanted = {}, []
    for size, changed, path in listed:
        name = path.decode("utf-8", "surrogateescape")
        known = last.get(name)
        same = known and (known.size, known.changed_ns) == (int(size), _nanoseconds(changed.decode()))
        if known and same and folder.has(known):
            kept[name] = known
        else:
            wanted.append(path)
    fetched = _fetch(site, folder, image, wanted) if wanted else {}
    total = sum(file.size for file in (*kept.values(), *fetched.values()))
    site.say(f"files: {len(fetched)} fetched, {len(kept)} there already, {_size(total)} in all")
    return dict(sorted({**kept, **fetched}.items()))


def _fetch(site: Site, folder: Folder, image: str, wanted: list[bytes]) -> dict[str, SavedFile]:
    fetched = {}
    with site.master.piped(volumes.pack_some(site.volume("files"), image)) as running:
        # tar reads all the names before it writes anything.
        running.stdin.write(b"".join(path + b"\0" for path in wanted))
        running.stdin.close()
        with tarfile.open(fileobj=running.stdout, mode="r|") as archive:
            for member in archive:
                contents = archive.extractfile(member)
                if contents is None:
                    continue
                saved = folder.store(cast("BinaryIO", contents))
                changed = _nanoseconds(member.pax_headers.get("mtime", str(member.mtime)))
                fetched[member.name] = SavedFile(saved.sha256, saved.size, changed)
        running.stdout.read()  # what is behind the end of the archive
    return fetched


def _whole(site: Site, services: Mapping[str, Service]) -> list[str]:
    """Services whose volume is there to be saved."""
    return [name for name in WITH_VOLUMES if services[name].replicas and site.has_volume(name)]


def _volume(site: Site, folder: Folder, name: str, service: Service, image: str) -> Saved:
    site.say(f"{name}: stopped while it is copied")
    try:
        site.stop([name])
        with site.master.piped(volumes.pack(site.volume(name), image)) as running:
            saved = folder.store(running.stdout)
    finally:
        site.start({name: service.replicas})
    site.say(f"{name}: {_size(saved.size)}")
    return saved


def _secrets(site: Site, folder: Folder, *, every: bool) -> dict[str, Saved]:
    names = [path.name for path in site.secrets.iterdir() if path.is_file() and path.name[0] != "."]
    wanted = sorted(name for name in names if every or name in DATA_SECRETS)
    return {name: folder.store(io.BytesIO((site.secrets / name).read_bytes())) for name in wanted}


def _redis_version(site: Site) -> str:
    with connect(site.queue_url, ca_file=site.ca_file) as client:
        return str(client.info("server")["redis_version"])


def _nanoseconds(seconds: str) -> int:
    return int(Decimal(seconds) * 10**9)


def _size(count: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count = round(count / 1000, 1)  # type: ignore[assignment]
    return f"{count:,.1f} GB"
