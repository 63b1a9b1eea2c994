"""How fast does a worker run that is far from its services? Jobs of 20 ms, two slots, 100 ms round trip.

Redis, file store and database are reached through relays that hold each byte for half of the round trip, in
both directions. Two slots could run 100 such jobs per second; ``near`` is the same worker beside the
services. Writes benchmarks/results/far.json.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from functools import partial

import measure
import payloads
import services

SLOTS = 2
JOB_S = 0.02
GOALS = [
    measure.Goal("jobs of 20 ms on 2 slots, 100 ms away", "jobs/s", must=80, stretch=95, ours="far"),
]


def main() -> None:
    parser = measure.arguments(__doc__, jobs=1000)
    parser.add_argument("--round-trip-ms", type=float, default=100.0, help="(100)")
    options = parser.parse_args()
    with services.running() as stack, Relays(options.round_trip_ms / 2000) as relays:
        run(stack, None, 10)
        ways = {
            "far": partial(run, stack, relays, options.jobs),
            "near": partial(run, stack, None, options.jobs),
        }
        runs = measure.interleave(ways, options.repeats)
    measure.report("far", GOALS, runs, options)


def run(stack: services.Services, relays: Relays | None, jobs: int) -> measure.Values:
    """From the first start to the last record, by a worker that is started when the jobs are there."""
    ensemble = stack.stack.submit(
        "far",
        payload=payloads.write(stack.directory / "payload"),
        function="worker.nap",
        jobs=({"seconds": JOB_S, "n": n} for n in range(jobs)),
    )
    with stack.behind(relays.to if relays else lambda port: port):
        worker = stack.worker(slots=SLOTS, state="far" if relays else "near")
    ended = services.ended_at(ensemble)
    first = min(record.started_at for record in ensemble.results())
    services.end(worker)
    stack.redis.client.flushall()
    return {"jobs/s": jobs / (ended - first)}


class Relays:
    """TCP relays on this machine, in a thread of their own; each byte arrives ``delay_s`` later."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._ports: dict[int, int] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Relays:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        passing = asyncio.all_tasks() - {asyncio.current_task()}
        for task in passing:
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)

    def to(self, port: int) -> int:
        """The port of the relay to that one."""
        if port not in self._ports:
            begun = asyncio.run_coroutine_threadsafe(self._serve(port), self._loop)
            self._ports[port] = begun.result(10)
        return self._ports[port]

    async def _serve(self, port: int) -> int:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            chunk = b""
            with contextlib.suppress(ConnectionError):
                chunk = await reader.read(1 << 16)
            self._loop.call_later(self._delay_s, writer.write if chunk else _closed, chunk or writer)
            if not chunk:
                return


def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()


if __name__ == "__main__":
    main()
