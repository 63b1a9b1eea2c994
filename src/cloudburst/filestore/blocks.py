"""Work on files in blocks and in threads, so that a slow disk never holds up other requests."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, ParamSpec, TypeVar

if TYPE_CHECKING:
    from _hashlib import HASH as Hasher

P = ParamSpec("P")
T = TypeVar("T")

BLOCK_BYTES = 1024 * 1024
"""Large enough that the change of threads (about 0.1 ms) costs little beside the work on a block."""


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function`` in a thread. A cancelled caller still waits for it to end.

    So nothing, such as a file, is closed or removed while a thread is at work on it.
    """
    loop = asyncio.get_running_loop()
    call = loop.run_in_executor(None, functools.partial(function, *args, **kwargs))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        while not call.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([call])
        raise


async def hashed(file: BinaryIO) -> Hasher:
    """SHA-256 over all of ``file`` from where it stands, block by block so that it can be cancelled."""
    hasher = hashlib.sha256()

    def add_block() -> bool:
        block = file.read(8 * BLOCK_BYTES)
        hasher.update(block)
        return bool(block)

    while await in_thread(add_block):
        pass
    return hasher
