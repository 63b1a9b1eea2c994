"""A DigitalOcean that lives in this process: its API on 127.0.0.1, strict about every request.

::

    with FakeDigitalOcean() as fake:
        run("./buildstack.sh", "-n3", "-y", environ={**os.environ, **fake.environ})
        fake.check()                                            # no request was wrong
        fake.account.names("cloudburst:cloud")                  # droplets
        fake.account.left()                                     # what is there of everything

Time: droplets are active at the first look; ``FakeDigitalOcean(times=Times(boot_s=45, address_s=50,
delete_s=10, member_s=5))`` has them take as long as real ones, by ``clock``, which a test may move itself.

Faults: ``fake.fault("POST /v2/droplets", "lost reply")``, ``fake.fault(7, "status", status=503)``,
``fake.fault("GET *", "status", status=429, retry_after=1)``; ``fake.kill_at(n, lambda: child.pid)``.

What it knows of the real one, beyond the specification: a firewall's tags have to exist (as have those in its
rules), its name is taken only once (409), it shows rules in another order; a droplet that is still being
created cannot be deleted (422, "pending event") and is passed over by a DELETE by tag; a key's contents can
be there only once, its name any number of times; tags stay when the droplets go; keys are listed ten times
per minute at most, and known to droplets a little after they were made (``Times(key_s=20)``); droplets with a
GPU are listed with ``type=gpus`` only, which goes with no tag; a token that may only read is refused in words
of its own.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.digitalocean import routes, schemas
from tests.digitalocean.account import Account, Hardware, Records, Times
from tests.digitalocean.faults import Call, Fault, Kind, Matcher
from tests.digitalocean.refusals import (
    STATUS,
    Refusal,
    forbidden,
    read_only,
    too_many,
    too_many_lists,
    unauthorized,
)

Json = dict[str, Any]
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

KEY_LISTS = 10


class FakeDigitalOcean:
    """Serves while it is entered. ``calls``: all requests; ``violations``: what was wrong with them."""

    def __init__(
        self,
        times: Times | None = None,
        clock: Callable[[], float] = time.time,
        hardware: Hardware | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        """``host``: an address of this machine at which it is to be asked."""
        self._host = host
        self.account = Account(clock, times or Times(), hardware or Records())
        self.token = f"dop_v1_{secrets.token_hex(32)}"
        self.scopes: dict[str, frozenset[str] | None] = {self.token: None}
        """Tokens that are good: what each is for (``droplet:create``…), None: everything."""
        self.calls: list[Call] = []
        self.violations: list[str] = []
        self.rate_limit: int | None = None
        """Calls per minute, after which it answers 429."""
        self.key_lists = KEY_LISTS
        """How often the account may list its SSH keys in a minute."""
        self.foreign_links = False
        """Whether next links lead to api.digitalocean.com, as the real one's do, wherever it is asked."""
        self.lock = threading.RLock()
        self._faults: list[Fault] = []
        self._window = (0.0, 0)
        self._keys_listed: list[float] = []

    def __enter__(self) -> FakeDigitalOcean:
        fake = self

        class Bound(_Request):
            api = fake

        self._server = ThreadingHTTPServer((self._host, 0), Bound)
        self._server.daemon_threads = True
        self.url = f"http://{self._host}:{self._server.server_address[1]}"
        self.account.url = self.url
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def end_point(self) -> str:
        return f"{self.url}/v2/"

    @property
    def environ(self) -> dict[str, str]:
        """For a child that is to use it."""
        return {"DOTOKEN": self.token, "DIGITALOCEAN_END_POINT": self.end_point}

    def another_token(self, *scopes: str) -> str:
        """With these rights only."""
        token = f"dop_v1_{secrets.token_hex(32)}"
        self.scopes[token] = frozenset(scopes)
        return token

    def fault(
        self,
        matcher: Matcher,
        kind: Kind,
        *,
        times: int = 1,
        after: int = 0,
        status: int = 500,
        message: str = "",
        retry_after: float | None = None,
        seconds: float = 0.0,
    ) -> Fault:
        """Let something go wrong; ``happened`` of what it returns says how often it has.

        ``status``: not executed, and answered with it; ``lost reply``: executed, the connection closed;
        ``lost request``: closed before; ``slow``: executed, answered after ``seconds``.
        """
        fault = Fault(matcher, kind, times, after, status, message, retry_after, seconds)
        with self.lock:
            self._faults.append(fault)
        return fault

    def kill_at(self, matcher: Matcher, pid: Callable[[], int], *, executed: bool = False) -> Fault:
        """SIGKILL for that process at that call, before it is executed or, with ``executed``, after."""
        fault = Fault(matcher, "kill after" if executed else "kill before", victim=pid)
        with self.lock:
            self._faults.append(fault)
        return fault

    def mend(self) -> None:
        """No more faults."""
        with self.lock:
            self._faults.clear()

    def check(self) -> None:
        """Fails if any request was not as the specification says."""
        assert not self.violations, "\n".join(self.violations)

    def count(self, matcher: str = "*") -> int:
        """How many calls there were that match, as in :meth:`fault`."""
        wanted = Fault(matcher, "slow", times=0)
        with self.lock:
            for call in self.calls:
                wanted.befalls(call)
        return wanted.seen

    # What a request goes through.

    def begin(self, method: str, path: str, query: str, body: object) -> tuple[Call, list[Fault]]:
        with self.lock:
            call = Call(len(self.calls) + 1, method, path, query, body)
            self.calls.append(call)
            return call, [fault for fault in self._faults if fault.befalls(call)]

    def execute(self, call: Call, wrong: list[str], token: str) -> tuple[int, Json | None]:
        """Status and body of the answer. Raises Refusal."""
        with self.lock:
            self._count()
            found = routes.find(call.method, call.path)
            if found is None:
                wrong.append("there is no such method and path")
            else:
                route, arguments = found
                wrong += routes.wrong_query(route, call.query)
                if route.body is not None:
                    wrong += schemas.faults(call.body, route.body)
            if wrong:
                self.violations += [f"{call.number}: {call.method} {call.path}: {what}" for what in wrong]
                raise Refusal(400, "bad_request", "; ".join(wrong))
            assert found is not None
            if token not in self.scopes:
                raise unauthorized()
            scopes = self.scopes[token]
            if scopes is not None and route.scope not in scopes:
                raise read_only() if all(one.endswith(":read") for one in scopes) else forbidden()
            if scopes is not None and "tag_name=" in call.query and "tag:read" not in scopes:
                raise forbidden()
            if (call.method, call.path) == ("GET", "/v2/account/keys"):
                self._count_key_list()
            call.executed = True
            query = dict(parse_qsl(call.query))
            answer = route.answer(self.account, arguments, query, call.body)
            if route.pages is not None:
                return route.status, self._page(call.path, query, route.pages, answer)
            return route.status, answer

    def limits(self) -> dict[str, str]:
        limit = self.rate_limit or 5000
        used = self._window[1] if self.rate_limit else len(self.calls)
        return {
            "ratelimit-limit": str(limit),
            "ratelimit-remaining": str(max(0, limit - used)),
            "ratelimit-reset": str(int(self._window[0]) + 60),
        }

    def _count(self) -> None:
        """Raises Refusal when there are too many calls in this minute."""
        now = self.account.clock()
        if now - self._window[0] >= 60:
            self._window = (now, 0)
        self._window = (self._window[0], self._window[1] + 1)
        if self.rate_limit is not None and self._window[1] > self.rate_limit:
            raise too_many(60 - (now - self._window[0]))

    def _count_key_list(self) -> None:
        """Raises Refusal for more lists of keys than a minute may have."""
        now = self.account.clock()
        self._keys_listed = [at for at in self._keys_listed if now - at < 60]
        if len(self._keys_listed) >= self.key_lists:
            raise too_many_lists(now + 57 * 60)
        self._keys_listed.append(now)

    def _page(self, path: str, query: dict[str, str], key: str, items: list[Json]) -> Json:
        size, number = int(query.pop("per_page", 20)), int(query.pop("page", 1))
        last = max(1, -(-len(items) // size))
        base = "https://api.digitalocean.com" if self.foreign_links else self.url

        def link(page: int) -> str:
            rest = "".join(f"&{name}={value}" for name, value in query.items())
            return f"{base}{path}?page={page}&per_page={size}{rest}"

        pages = {}
        if number > 1:
            pages |= {"first": link(1), "prev": link(number - 1)}
        if number < last:
            pages |= {"next": link(number + 1), "last": link(last)}
        return {
            key: items[(number - 1) * size : number * size],
            "links": {"pages": pages} if pages else {},
            "meta": {"total": len(items)},
        }


class _Request(BaseHTTPRequestHandler):
    api: FakeDigitalOcean
    protocol_version = "HTTP/1.1"
    timeout = 60
    disable_nagle_algorithm = True
    wbufsize = -1
    """Headers and body go out together: apart, each call would take another 40 ms."""

    def log_message(self, *arguments: object) -> None: ...

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.removeprefix("do_") in METHODS:
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        split = urlsplit(self.path)
        wrong: list[str] = []
        body = self._body(wrong)
        call, faults = self.api.begin(self.command, split.path, split.query, body)
        after: list[Fault] = []
        for fault in faults:
            if fault.kind == "kill before":
                fault.kill()
                return self._hang_up()
            if fault.kind == "lost request":
                return self._hang_up()
            if fault.kind == "status":
                return self._answer_fault(call, fault)
            after.append(fault)
        try:
            status, answer = self.api.execute(call, wrong, self._token())
            headers: dict[str, str] = {}
        except Refusal as refusal:
            status, answer, headers = refusal.status, _error(refusal), refusal.headers
        for fault in after:
            if fault.kind == "slow":
                time.sleep(fault.seconds)
            else:
                if fault.kind == "kill after":
                    fault.kill()
                return self._hang_up()
        call.status = status
        return self._answer(status, answer, headers)

    def _token(self) -> str:
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        return token if kind == "Bearer" else ""

    def _body(self, wrong: list[str]) -> object:
        """The JSON that was sent; what is amiss with it and with the headers goes to ``wrong``."""
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        kind = self.headers.get("Content-Type")
        if "Transfer-Encoding" in self.headers:
            wrong.append("a chunked body")
            self.close_connection = True
        if "Authorization" not in self.headers:
            wrong.append("no Authorization header")
        if not routes.may_have_body(self.command, urlsplit(self.path).path):
            if raw:
                wrong.append(f"a body, {raw[:200]!r}, with {self.command}")
            if kind is not None:
                wrong.append(f"Content-Type {kind} without a body")
            return None
        if kind is None or kind.partition(";")[0].strip() != "application/json":
            wrong.append(f"Content-Type {kind}")
        try:
            return json.loads(raw)
        except ValueError:
            wrong.append(f"the body is no JSON: {raw[:200]!r}")
            return None

    def _answer_fault(self, call: Call, fault: Fault) -> None:
        identity, message = STATUS.get(fault.status, ("server_error", "Unexpected server-side error"))
        headers = {} if fault.retry_after is None else {"retry-after": f"{fault.retry_after:g}"}
        call.status = fault.status
        refusal = Refusal(fault.status, identity, fault.message or message)
        self._answer(fault.status, _error(refusal), headers)

    def _answer(self, status: int, answer: Json | None, headers: dict[str, str]) -> None:
        content = b"" if answer is None else json.dumps(answer).encode()
        try:
            self.send_response(status)
            for name, value in {**self.api.limits(), **headers}.items():
                self.send_header(name, value)
            if answer is not None:
                self.send_header("Content-Type", "application/json; charset=utf-8")
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):  # who asked was killed
            self.close_connection = True

    def _hang_up(self) -> None:
        self.close_connection = True


def _error(refusal: Refusal) -> Json:
    return {"id": refusal.id, "message": refusal.message, "request_id": str(uuid.uuid4())}
