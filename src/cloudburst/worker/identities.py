"""Users for executors: each has one to itself, so that a job cannot get at other jobs, nor at the worker.

They are bare numbers, without names or homes. The worker needs some of root's capabilities for it, and
sees to it that none of its children has any.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cloudburst.errors import ConfigError

log = logging.getLogger(__name__)

_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522

_NEEDED = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "KILL": 5, "SETGID": 6, "SETUID": 7}
"""Capabilities by their numbers (linux/capability.h)."""

_LAST_CAPABILITY = 63

KILL_S = 2.0
"""How long the kernel gets to take killed processes away."""

_PAUSE_S = 0.002


class Identity:
    """One user number, and the group of the same number; nobody else's until ``release``."""

    def __init__(self, uid: int, pool: Identities) -> None:
        self.uid = uid
        self._pool = pool

    @property
    def start_options(self) -> dict[str, Any]:
        """Of ``subprocess.Popen``: become this user, in no other group, with files for nobody else."""
        return {"user": self.uid, "group": self.uid, "extra_groups": (), "umask": 0o077}

    def variables(self, home: Path) -> Mapping[str, str]:
        """What programs ask about their user, who has no entry in any list of users."""
        return {"HOME": str(home), "USER": "job", "LOGNAME": "job"}

    def give(self, path: Path | int, mode: int) -> None:
        """Make it the owner of a file or directory of ours."""
        os.chmod(path, mode)
        os.chown(path, self.uid, self.uid)

    def admit(self, directory: Path) -> None:
        """Let it make files in a directory of ours, and remove those that are its own."""
        os.chown(directory, -1, self.uid)
        directory.chmod(0o1730)

    def take_back(self, parent: Path) -> None:
        """What it has made in ``parent`` is ours from now on. None of its processes may run any more."""
        with contextlib.suppress(FileNotFoundError), os.scandir(parent) as entries:
            for entry in entries:
                if entry.stat(follow_symlinks=False).st_uid == self.uid:
                    _own(Path(entry.path))

    def end_all(self) -> None:
        """Kill all its processes, also those that have left their process group."""
        deadline = time.monotonic() + KILL_S
        while found := list(_processes_of(self.uid)):
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                log.warning("processes %s of user %d survive SIGKILL; it is not used again", found, self.uid)
                self._pool.lose(self)
                return
            time.sleep(_PAUSE_S)

    def release(self) -> None:
        """Another executor may have it. May be repeated."""
        self._pool.release(self)


class Identities:
    """The user numbers of a range, each used again as late as possible. An empty range: everybody is us."""

    def __init__(self, uids: range) -> None:
        self._uids = uids
        self._next = 0
        self._taken: set[int] = set()
        self._lost: set[int] = set()

    def take(self) -> Identity | None:
        """One that nobody has; None when executors are to have none. OSError when there is none left."""
        if not self._uids:
            return None
        for _ in self._uids:
            uid = self._uids[self._next % len(self._uids)]
            self._next += 1
            if uid not in self._taken | self._lost and not any(_processes_of(uid)):
                self._taken.add(uid)
                return Identity(uid, self)
        raise OSError("all user numbers of CLOUDBURST_EXECUTOR_UIDS are in use: give a larger range")

    def release(self, identity: Identity) -> None:
        self._taken.discard(identity.uid)

    def lose(self, identity: Identity) -> None:
        self._lost.add(identity.uid)


def prepare(state_dir: Path) -> None:
    """Once per process, before it has threads or children: keep the capabilities, and pass none of them on.

    Executors can get through ``state_dir``, but cannot list it. ConfigError when capabilities are missing.
    """
    _check()
    libc = ctypes.CDLL(None, use_errno=True)
    # From now on no child can get any again, by setuid programs or otherwise.
    for capability in range(_LAST_CAPABILITY + 1):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    _done("prctl", libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _inherit_none(libc)
    os.umask(0o022)
    for directory in (state_dir, state_dir / "payloads", state_dir / "environments"):
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o711)
    cache = state_dir / "environments" / "cache"
    cache.mkdir(exist_ok=True)
    cache.chmod(0o700)


def _check() -> None:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError as error:
        raise ConfigError("CLOUDBURST_EXECUTOR_UIDS: users for executors take Linux") from error
    effective = int(next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1], 16)
    missing = [name for name, number in _NEEDED.items() if not effective >> number & 1]
    if missing:
        raise ConfigError(
            f"CLOUDBURST_EXECUTOR_UIDS: this process may not start others as other users: it lacks "
            f"CAP_{', CAP_'.join(missing)}; run it as root, or see images/worker"
        )


def _inherit_none(libc: ctypes.CDLL) -> None:
    """Empty the inheritable set, and with it the ambient one (capabilities(7))."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    _done("capget", libc.capget(header, data))
    effective, permitted, _, effective_high, permitted_high, _ = struct.unpack("=6I", data.raw)
    wanted = struct.pack("=6I", effective, permitted, 0, effective_high, permitted_high, 0)
    _done("capset", libc.capset(header, wanted))


def _done(call: str, status: int) -> None:
    if status != 0:
        raise ConfigError(f"CLOUDBURST_EXECUTOR_UIDS: {call} fails: {os.strerror(ctypes.get_errno())}")


def _own(path: Path) -> None:
    uid, gid = os.geteuid(), os.getegid()
    os.chown(path, uid, gid, follow_symlinks=False)
    if path.is_symlink() or not path.is_dir():
        return
    for _, directories, files, descriptor in os.fwalk(path, follow_symlinks=False):
        for name in (*directories, *files):
            os.chown(name, uid, gid, dir_fd=descriptor, follow_symlinks=False)


def _processes_of(uid: int) -> Iterator[int]:
    """Living ones, by the real user; a zombie only waits to be asked for."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                fields = dict(
                    line.split(":\t", 1)
                    for line in Path("/proc", name, "status").read_text().splitlines()
                    if ":\t" in line
                )
                if fields["Uid"].split()[0] == str(uid) and fields["State"][0] not in "ZX":
                    yield int(name)
