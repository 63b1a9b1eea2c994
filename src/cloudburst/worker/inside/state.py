"""What a process has beside its memory, and what the standard library keeps for a whole process.

Each is read before a job and after it, and written only if the two differ. To read all of it takes 20
microseconds; hence the C modules, whose answers are not made into enums.
"""

from __future__ import annotations

import _locale
import _signal  # type: ignore[import-not-found]
import contextlib
import decimal
import faulthandler
import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
import warnings
from typing import Any, Callable, Dict, List, NamedTuple

from .output import answer_signals

SIGNALS = sorted(set(map(int, signal.valid_signals())) - {int(signal.SIGKILL), int(signal.SIGSTOP)})
TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
LIMITS = [
    getattr(resource, "RLIMIT_" + name)
    for name in ["AS", "CORE", "CPU", "DATA", "FSIZE", "NOFILE", "NPROC", "STACK"]
    if hasattr(resource, "RLIMIT_" + name)
]
"""Those that jobs run into."""

ATTRIBUTES = [
    (owner, name)
    for owner, names in (
        (sys, "stdin stdout stderr excepthook unraisablehook displayhook breakpointhook path argv"),
        (os, "environ"),
        (warnings, "showwarning formatwarning"),
        (logging, "_warnings_showwarning raiseExceptions lastResort"),
        (threading, "excepthook _trace_hook _profile_hook"),
    )
    for name in names.split()
    if hasattr(owner, name)
]
"""What jobs replace as a whole."""

START_METHODS = (
    ("multiprocessing.context", "_default_context", "_actual_context"),
    ("loky.backend.context", "", "_DEFAULT_START_METHOD"),
    ("joblib.externals.loky.backend.context", "", "_DEFAULT_START_METHOD"),
)
"""Where libraries keep that it was chosen, and so cannot be chosen again; None before."""


def disarm() -> None:
    """Stop all timers. What a handler raises that one has called just before is nobody's error any more."""
    while True:
        try:
            for timer in TIMERS:
                _signal.setitimer(timer, 0)
            faulthandler.cancel_dump_traceback_later()
            return
        except BaseException:  # noqa: BLE001, S112 (there is nothing to say about it)
            continue


def _signals() -> Any:
    handlers = list(map(_signal.getsignal, SIGNALS))
    return _signal.pthread_sigmask(_signal.SIG_BLOCK, ()), handlers, faulthandler.is_enabled()


def _set_signals(was: Any) -> None:
    mask, handlers, _ = was
    for number in _signal.sigpending():  # blocked by the job, and meant for it
        _signal.signal(number, _signal.SIG_IGN)
    for number, handler in zip(SIGNALS, handlers):
        if handler is not None and _signal.getsignal(number) != handler:
            _signal.signal(number, handler)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    answer_signals()


def _attributes() -> List[Any]:
    return [getattr(owner, name, None) for owner, name in ATTRIBUTES]


def _set_attributes(was: List[Any]) -> None:
    for (owner, name), value in zip(ATTRIBUTES, was):
        setattr(owner, name, value)


def _set_environ(was: Dict[bytes, bytes]) -> None:
    now = os.environb
    zone = now.get(b"TZ")
    for name in set(now) - set(was):
        del now[name]
    for name, value in was.items():
        if now.get(name) != value:
            now[name] = value
    if now.get(b"TZ") != zone:
        time.tzset()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _set_filters(was: List[Any]) -> None:
    warnings.resetwarnings()
    warnings.filters.extend(was)  # type: ignore[attr-defined]


def _loggers() -> Any:
    loggers: List[Any] = [logging.root, *logging.root.manager.loggerDict.values()]
    return logging.root.manager.disable, {
        logger: (logger.level, logger.propagate, logger.disabled, logger.handlers[:])
        for logger in loggers
        if not isinstance(logger, logging.PlaceHolder)
    }


def _set_loggers(was: Any) -> None:
    """Handlers that were added go; those of new loggers too, but for the one that libraries give theirs."""
    logging.root.manager.disable, loggers = was
    kept = {handler for _, _, _, handlers in loggers.values() for handler in handlers}
    for logger, (_, _, _, handlers) in _loggers()[1].items():
        nulls = [handler for handler in handlers if isinstance(handler, logging.NullHandler)]
        level, logger.propagate, logger.disabled, logger.handlers[:] = loggers.get(
            logger, (logger.level, logger.propagate, logger.disabled, nulls)
        )
        logger.setLevel(level)
        for handler in set(handlers) - kept - set(nulls):
            with contextlib.suppress(Exception):  # its disk is full, its file was closed
                handler.close()


def _limits() -> List[Any]:
    return list(map(resource.getrlimit, LIMITS))


def _set_limits(was: List[Any]) -> None:
    for limit, value in zip(LIMITS, was):
        if resource.getrlimit(limit) != value:
            resource.setrlimit(limit, value)


def _start_methods() -> List[Any]:
    return [getattr(owner, name, None) for owner, name in _choosers()]


def _set_start_methods(was: List[Any]) -> None:
    for (owner, name), value in zip(_choosers(), was):
        if hasattr(owner, name):
            setattr(owner, name, value)


def _choosers() -> List[Any]:
    modules = [(sys.modules.get(module), inner, name) for module, inner, name in START_METHODS]
    return [(getattr(module, inner, None) if inner else module, name) for module, inner, name in modules]


def _event_loop() -> Any:
    policy = getattr(sys.modules.get("asyncio.events"), "_event_loop_policy", None)
    local = getattr(policy, "_local", None)
    return policy, getattr(local, "_loop", None), getattr(local, "_set_called", False)


def _set_event_loop(was: Any) -> None:
    policy, loop, _ = was
    left = _event_loop()[1]
    if left is not None and left is not loop:
        with contextlib.suppress(Exception):  # RuntimeError where it still runs
            left.close()
    sys.modules["asyncio.events"]._event_loop_policy = policy  # type: ignore[attr-defined]
    if hasattr(policy, "_local"):
        policy._local = type(policy._local)()
        if loop is not None:
            policy.set_event_loop(loop)


def _numpy_errors() -> Any:
    return getattr(sys.modules.get("numpy"), "geterr", dict)()


def _set_numpy_errors(was: Dict[str, str]) -> None:
    sys.modules["numpy"].seterr(**was)


def _figures() -> List[int]:
    """Numbers of those that pyplot keeps until they are closed; the next job would draw into the last one."""
    return list(_pyplots())


def _set_figures(was: List[int]) -> None:
    for number in set(_pyplots()) - set(was):
        sys.modules["matplotlib._pylab_helpers"].Gcf.destroy(number)


def _pyplots() -> Any:
    keeper = getattr(sys.modules.get("matplotlib._pylab_helpers"), "Gcf", None)
    return getattr(keeper, "figs", ())


class State(NamedTuple):
    """One thing that a job can change for the next."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    """Raises OSError or ValueError where it may not."""


ENVIRONMENT = State("environment", os.environb._data.copy, _set_environ)  # type: ignore[attr-defined]
"""What we change ourselves between two jobs."""

STATE = [
    ENVIRONMENT,
    # First: while files are limited, much of the rest cannot be put back.
    State("resource limits", _limits, _set_limits),
    State("signal handlers", _signals, _set_signals),
    State("attributes", _attributes, _set_attributes),
    State("umask", _umask, os.umask),
    State(
        "locale",
        lambda: _locale.setlocale(_locale.LC_ALL),
        lambda was: _locale.setlocale(_locale.LC_ALL, was),
    ),
    State("warnings", lambda: warnings.filters[:], _set_filters),
    State("logging", _loggers, _set_loggers),
    State("sys.path", lambda: sys.path[:], lambda was: sys.path.__setitem__(slice(None), was)),
    State("sys.argv", lambda: sys.argv[:], lambda was: sys.argv.__setitem__(slice(None), was)),
    State("trace function", sys.gettrace, sys.settrace),
    State("profile function", sys.getprofile, sys.setprofile),
    State("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    State("switch interval", sys.getswitchinterval, sys.setswitchinterval),
    State("garbage collector", gc.isenabled, lambda was: gc.enable() if was else gc.disable()),
    State("its thresholds", gc.get_threshold, lambda was: gc.set_threshold(*was)),
    State("its debugging flags", gc.get_debug, gc.set_debug),
    State("socket timeout", socket.getdefaulttimeout, socket.setdefaulttimeout),
    State(
        "decimal context",
        lambda: decimal.getcontext().__reduce__()[1],
        lambda was: decimal.setcontext(decimal.Context(*was)),
    ),
    State("NumPy's errors", _numpy_errors, _set_numpy_errors),
    State("pyplot's figures", _figures, _set_figures),
    State("start method of multiprocessing", _start_methods, _set_start_methods),
    State("event loop", _event_loop, _set_event_loop),
    State("priority", lambda: os.getpriority(0, 0), lambda was: os.setpriority(0, 0, was)),
]
if hasattr(os, "sched_getaffinity"):
    STATE += [
        State("CPUs", lambda: os.sched_getaffinity(0), lambda was: os.sched_setaffinity(0, was)),
        State("user", os.getresuid, lambda was: os.setresuid(*was)),
        State("group", os.getresgid, lambda was: os.setresgid(*was)),
    ]
if hasattr(sys, "get_int_max_str_digits"):
    STATE.append(State("digits of integers", sys.get_int_max_str_digits, sys.set_int_max_str_digits))
