"""A forwarding HTTP proxy on this machine, for CONNECT and for plain requests."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import urllib.parse


class ForwardingProxy:
    """Forwards to wherever it is asked, and remembers to whom."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        """``host:port`` of each request."""
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, version = head.split(b"\r\n", 1)[0].decode().split(" ")
            url = urllib.parse.urlsplit(target if "://" in target else f"//{target}")
            self.asked.append(url.netloc)
            there, to_there = await asyncio.open_connection(url.hostname, url.port or 80)
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:  # one request per connection, so that the next is not forwarded to the same host
                path = url.path or "/"
                rest = head.split(b"\r\n", 1)[1]
                to_there.write(f"{method} {path} {version}\r\nConnection: close\r\n".encode() + rest)
            await asyncio.gather(_copy(reader, to_there), _copy(there, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while block := await reader.read(1 << 16):
            writer.write(block)
            await writer.drain()
    with contextlib.suppress(ConnectionError, RuntimeError):
        writer.close()
