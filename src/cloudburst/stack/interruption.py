"""Ctrl-C and SIGTERM during a start: noticed between steps, when every process started is on record."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator

from cloudburst.errors import StackError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(StackError):
    """The user stopped a start."""

    exit_code = 130


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP raise Interrupted inside, as Ctrl-C raises KeyboardInterrupt: clean-up is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: object) -> None:
        raise Interrupted(f"interrupted ({signal.Signals(number).name})")

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[float], None]]:
    """Yields a sleep that raises Interrupted once one of ``SIGNALS`` has come; nothing else does."""
    received: list[int] = []

    def pause(seconds: float) -> None:
        if not received and seconds:
            time.sleep(seconds)
        if received:
            raise Interrupted(f"start interrupted ({signal.Signals(received[0]).name})")

    if threading.current_thread() is not threading.main_thread():
        yield pause  # signals go to the main thread, which decides there
        return
    before = {number: signal.signal(number, lambda got, _frame: received.append(got)) for number in SIGNALS}
    try:
        yield pause
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
