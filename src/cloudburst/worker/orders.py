"""Listens to what stock tools tell this worker to do: stop a job, kill what runs, shut down."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Iterator

import redis

from cloudburst.rqwire import orders
from cloudburst.rqwire.orders import Order
from cloudburst.worker.wake import Wake

log = logging.getLogger(__name__)

WAIT_S = 5.0
"""How long one call waits for a message: shorter than the connection's timeout."""

PAUSE_S = 1.0
"""After a failure, before subscribing again."""


class Orders:
    """A subscription in a thread of its own; each order wakes the worker's loop, which takes it.

    Orders that are published while nobody listens are lost, as with stock RQ: the channel keeps nothing.
    """

    def __init__(self, client: redis.Redis, worker: str, wake: Wake) -> None:
        self._redis = client
        self._channel = orders.channel(worker)
        self._wake = wake
        self._given: deque[Order] = deque()
        self._closed = threading.Event()
        threading.Thread(target=self._listen, name="orders", daemon=True).start()

    def take(self) -> Iterator[Order]:
        """What has been ordered since the last call."""
        while self._given:
            yield self._given.popleft()

    def close(self) -> None:
        self._closed.set()

    def _listen(self) -> None:
        warned = False
        while not self._closed.is_set():
            try:
                self._subscribe()
            except redis.RedisError as error:
                # A Redis that is away says so elsewhere; one that refuses (ACL) would go unnoticed.
                told = log.debug if warned or not isinstance(error, redis.ResponseError) else log.warning
                warned = warned or isinstance(error, redis.ResponseError)
                told("cannot listen to %s: %s", self._channel, error)
                self._closed.wait(PAUSE_S)

    def _subscribe(self) -> None:
        with contextlib.closing(self._redis.pubsub(ignore_subscribe_messages=True)) as pubsub:
            pubsub.subscribe(self._channel)
            while not self._closed.is_set():
                message = pubsub.get_message(timeout=WAIT_S)
                if message is not None:
                    self._take(message["data"])

    def _take(self, data: bytes) -> None:
        order = orders.read(data)
        if order is None:
            log.warning("not understood, from %s: %r", self._channel, data[:200])
            return
        self._given.append(order)
        self._wake.call()
