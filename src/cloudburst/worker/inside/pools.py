"""Pools of processes that libraries keep: closed with the job that has started them, so that the next job's
starts afresh.

Nothing is imported for it: a library that is not loaded has no pool.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import weakref
from typing import Any, Dict, FrozenSet, Iterator, List, Set

CLOSE_S = 2.0
"""How long a pool gets to close before its processes are killed, and again afterwards."""

_TRACKERS = (
    "multiprocessing.resource_tracker",
    "loky.backend.resource_tracker",
    "joblib.externals.loky.backend.resource_tracker",
)
_EXECUTORS = (
    "concurrent.futures.process",
    "loky.process_executor",
    "joblib.externals.loky.process_executor",
)
_REUSED = ("loky.reusable_executor", "joblib.externals.loky.reusable_executor")


class Pools:
    """Pools that a job has started; what was there before it stays."""

    def __init__(self) -> None:
        self._finalizers: FrozenSet[Any] = frozenset()
        self._executors: List[Any] = []
        self._held: List["weakref.ref[Any]"] = []
        self._closing: List[threading.Thread] = []
        self._renew = ""

    def before(self) -> None:
        self._finalizers = frozenset(_finalizers())
        self._executors = [weakref.ref(executor) for executor in _executors()]

    def forget(self) -> None:
        """No process was left: only multiprocessing's directory is gone with the job's."""
        for finalizer in self._new():
            if _is_temp_dir(finalizer):
                finalizer()

    def close(self, stay: FrozenSet[int]) -> None:
        """Close pools in the way that their libraries have for it, as far as that ends in time."""
        self._renew, self._held, self._closing = "", [], []
        old = [reference() for reference in self._executors]
        for executor in _executors():
            if executor not in old:
                self._held.append(weakref.ref(executor))
                self._begin(_shut, executor)
            elif not stay.issuperset(_workers(executor)):
                self._renew = "a pool of processes that was there before the job has been enlarged by it"
        for finalizer in self._new():
            if _is_pool(finalizer):
                self._held.append(finalizer._weakref)
            if _is_pool(finalizer) or _is_temp_dir(finalizer):
                self._begin(finalizer)
        self._await_closed()

    def _new(self) -> List[Any]:
        return [finalizer for key, finalizer in _finalizers().items() if key not in self._finalizers]

    def _begin(self, call: Any, *args: Any) -> None:
        def quietly() -> None:
            with contextlib.suppress(Exception):  # whatever a pool raises that has lost its processes
                call(*args)

        self._closing.append(threading.Thread(target=quietly, daemon=True))
        self._closing[-1].start()

    def _await_closed(self) -> bool:
        for thread in self._closing:
            thread.join(CLOSE_S)
        return not any(thread.is_alive() for thread in self._closing)

    def trackers(self) -> FrozenSet[int]:
        """Processes that remove what others have left behind, once nobody holds their pipes."""
        return frozenset(tracker._pid for tracker in _trackers() if tracker._pid is not None)

    def drop_trackers(self, pids: FrozenSet[int]) -> None:
        """Let go of their pipes."""
        gc.collect()  # what a tracker is still to be told
        for tracker in _trackers():
            if tracker._pid in pids:
                with contextlib.suppress(OSError, TypeError):
                    os.close(tracker._fd)
                tracker._fd = tracker._pid = None

    def reset(self, stay: FrozenSet[int]) -> str:
        """Have libraries forget processes that are gone; why this executor should be renewed, or ""."""
        closed = self._await_closed()
        _forget_children(stay)
        forget_forkserver(stay)
        gc.collect()
        if self._renew or not closed:
            return self._renew or "a pool of processes that a job has started cannot be closed"
        if any(reference() is not None for reference in self._held):
            return "a job has left a pool of processes where the next job finds it"
        return ""


def _finalizers() -> Dict[Any, Any]:
    util = sys.modules.get("multiprocessing.util")
    registry: Dict[Any, Any] = getattr(util, "_finalizer_registry", {})
    return registry


def _is_pool(finalizer: Any) -> bool:
    """Whether it ends a Pool or a Manager, and so processes."""
    reference = getattr(finalizer, "_weakref", None)
    owner = reference() if reference is not None else None
    bases = {"%s.%s" % (base.__module__, base.__name__) for base in type(owner).__mro__}
    if "multiprocessing.pool.ThreadPool" in bases:
        return False
    return not bases.isdisjoint({"multiprocessing.pool.Pool", "multiprocessing.managers.BaseManager"})


def _is_temp_dir(finalizer: Any) -> bool:
    return getattr(finalizer._callback, "__name__", "") == "_remove_temp_dir"


def _executors() -> Iterator[Any]:
    """All that have processes now (from Python 3.9 on, before which their threads do not know them)."""
    for name in _EXECUTORS:
        for thread in list(getattr(sys.modules.get(name), "_threads_wakeups", ())):
            executor = getattr(thread, "executor_reference", lambda: None)()
            if executor is not None:
                yield executor


def _workers(executor: Any) -> Set[int]:
    return set(getattr(executor, "_processes", None) or ())


def _shut(executor: Any) -> None:
    for name in _REUSED:
        module = sys.modules.get(name)
        if module is not None and module._executor is executor:
            module._executor = module._executor_kwargs = None  # type: ignore[attr-defined]
    if hasattr(executor, "_flags"):  # loky
        executor.shutdown(wait=True, kill_workers=True)
    else:
        for process in list((executor._processes or {}).values()):
            process.kill()
        executor.shutdown(wait=True)


def _trackers() -> Iterator[Any]:
    for name in _TRACKERS:
        tracker = getattr(sys.modules.get(name), "_resource_tracker", None)
        if tracker is not None:
            yield tracker


def _forget_children(stay: FrozenSet[int]) -> None:
    known = getattr(sys.modules.get("multiprocessing.process"), "_children", None)
    for process in list(known or ()):
        if process._popen is None or process._popen.pid not in stay:
            known.discard(process)  # type: ignore[union-attr]


def forget_forkserver(stay: FrozenSet[int]) -> None:
    """Unless it is one of those that ``stay``, the next that is asked for is a new one."""
    server: Any = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    pid = getattr(server, "_forkserver_pid", None)
    if pid is None or pid in stay:
        return
    with contextlib.suppress(OSError, TypeError):
        os.close(server._forkserver_alive_fd)
    server._forkserver_address = server._forkserver_alive_fd = server._forkserver_pid = None
    server._forkserver_authkey = None  # Python 3.14
