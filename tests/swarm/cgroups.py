"""A machine's part of this machine: its cgroups, which are the roots of the hierarchies that it sees."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator
from pathlib import Path

from tests.wait import wait_until


class Cgroups:
    """The groups of this name (``FARM/MACHINE``, or ``FARM`` for all of it),
    in the one hierarchy of cgroup v2 or in every mounted one of v1.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._hierarchies = dict(hierarchies())
        self.options = tuple(self._hierarchies)

    def create(self, cpus: Collection[int] | None) -> None:
        """Empty groups; processes in them may use these CPUs only (none given: all)."""
        for options, mount in self._hierarchies.items():
            group = mount / self.name
            if options == "unified":
                _hand_on_controllers(mount, group.parent)
            for missing in (group.parent, group):
                missing.mkdir(exist_ok=True)
                if "cpuset" in options.split(","):
                    for file in ("cpuset.cpus", "cpuset.mems"):  # v1 does not inherit them
                        (missing / file).write_text((missing.parent / file).read_text())
            if cpus is not None and (group / "cpuset.cpus").exists():
                (group / "cpuset.cpus").write_text(",".join(map(str, sorted(cpus))))

    def join(self) -> list[str]:
        """Files into which a process writes its id to be in these groups."""
        return [str(mount / self.name / "cgroup.procs") for mount in self._hierarchies.values()]

    def processes(self) -> set[int]:
        found: set[int] = set()
        for mount in self._hierarchies.values():
            for file in (mount / self.name).rglob("cgroup.procs"):
                found.update(int(pid) for pid in _lines(file) if pid != "0")
        return found

    def remove(self) -> None:
        """With everything that runs in them."""

        def killed() -> bool:
            processes = self.processes()
            for pid in processes:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            return not processes

        wait_until(killed, 30, f"the processes of {self.name} to end")
        for mount in self._hierarchies.values():
            top = mount / self.name
            below = [path for path in top.rglob("*") if path.is_dir()] if top.is_dir() else []
            for group in sorted([*below, top], key=lambda path: len(path.parts), reverse=True):
                if group.is_dir():
                    wait_until(lambda group=group: _removed(group), 10, f"{group} to be free")  # type: ignore[misc]


def hierarchies() -> Iterator[tuple[str, Path]]:
    """Mount options and mount point of each hierarchy; ``unified``: version 2, and only that."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, filesystem = line.partition(" - ")
        kind, _, super_options = filesystem.split(" ")
        path = Path(mount.split(" ")[4])
        if kind == "cgroup2" and path == Path("/sys/fs/cgroup"):
            yield "unified", path
        elif kind == "cgroup":
            options = [word for word in super_options.split(",") if word not in {"rw", "ro", "xattr"}]
            named = next((word for word in options if word.startswith("name=")), None)
            yield f"none,{named}" if named else ",".join(options), path


def _hand_on_controllers(top: Path, bottom: Path) -> None:
    controllers = (top / "cgroup.controllers").read_text().split()
    bottom.mkdir(exist_ok=True)
    for group in (top, bottom):
        (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:  # removed meanwhile
        return []


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # its last process is not quite gone
        return False
    return True
