"""Calls: what is sent, what is sent again, and what a user is told."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cloudburst.errors import ProviderError
from cloudburst.providers.digitalocean.api import Api, UncertainError
from tests.digitalocean.fake import FakeDigitalOcean
from tests.digitalocean.faults import Kind
from tests.providers.conftest import Clock, Place

TOKEN = "dop_v1_0123456789abcdef"

Odd = Callable[[bytes, int], str]


@pytest.fixture
def api(place: Place) -> Api:
    return Api(place.fake.token, place.fake.end_point, sleep=place.clock.sleep, clock=place.clock)


@pytest.fixture
def odd() -> Iterator[Odd]:
    """A server that gives the same answer to whatever it is asked; the end point, given body and status."""
    servers: list[HTTPServer] = []

    def serve(body: bytes, status: int) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Location", f"{ends[0]}elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None: ...

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        ends = [f"http://127.0.0.1:{servers[-1].server_port}/v2/"]
        threading.Thread(target=servers[-1].serve_forever, args=(0.02,), daemon=True).start()
        return ends[0]

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_all_pages_are_read_from_the_same_end_point(place: Place, api: Api) -> None:
    place.fake.foreign_links = True
    place.fake.account.droplet_limit = 1000
    for first in range(0, 450, 10):
        names = [f"n{number}" for number in range(first, first + 10)]
        place.fake.account.create_droplets(
            {"names": names, "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64", "tags": ["t"]}
        )
    assert {droplet["name"] for droplet in api.everything("droplets", "droplets", tag_name="t")} == {
        f"n{number}" for number in range(450)
    }
    assert place.fake.count("GET /v2/droplets") == 3


def test_what_has_no_id_is_listed_whole(api: Api) -> None:
    assert len(api.everything("sizes", "sizes")) == 27
    assert "fra1" in {region["slug"] for region in api.everything("regions", "regions")}


@pytest.mark.parametrize("kind", ["status", "lost reply", "lost request"])
@pytest.mark.parametrize("call", ["GET", "PUT", "DELETE"])
def test_calls_that_may_be_made_twice_are(place: Place, api: Api, call: str, kind: Kind) -> None:
    vpc = api.post("vpcs", {"name": "v", "region": "fra1"})["vpc"]
    place.fake.fault(f"{call} *", kind, times=3, status=503)
    path = f"vpcs/{vpc['id']}"
    if call == "GET":
        assert api.get(path)["vpc"]["name"] == "v"
    elif call == "PUT":
        assert api.put(path, {"name": "w"})["vpc"]["name"] == "w"
    else:
        api.delete(path)
        assert place.fake.account.left() == []
    assert place.clock.slept == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("kind", ["status", "lost reply", "lost request"])
def test_a_post_without_an_answer_is_sent_once(place: Place, api: Api, kind: Kind) -> None:
    place.fake.fault("POST *", kind, status=502)
    with pytest.raises(UncertainError, match="run the same command again"):
        api.post("tags", {"name": "t"})
    assert place.fake.count("POST *") == 1


def test_an_api_that_stays_away_is_given_up_with_its_status(place: Place, api: Api) -> None:
    place.fake.fault("GET *", "status", times=99, status=503)
    with pytest.raises(
        ProviderError, match=r"trouble with GET account.*HTTP 503.*status.digitalocean.com"
    ) as raised:
        api.get("account")
    assert raised.value.status == 503
    assert sum(place.clock.slept) == 30


@pytest.mark.parametrize("call", ["GET", "POST"])
def test_too_many_calls_wait_as_long_as_the_api_says(place: Place, api: Api, call: str) -> None:
    place.fake.fault(f"{call} *", "status", times=2, status=429, retry_after=17)
    if call == "GET":
        api.get("account")
    else:
        api.post("tags", {"name": "t"})
    assert place.clock.slept == [17.0, 17.0]


def test_the_hour_is_not_waited_for(place: Place, api: Api) -> None:
    place.fake.fault("GET *", "status", times=9, status=429, retry_after=1800)
    with pytest.raises(ProviderError, match="try again in 30 min"):
        api.get("account")
    assert place.clock.slept == []


def test_a_minute_full_of_calls_is_waited_for(place: Place, api: Api) -> None:
    place.fake.rate_limit = 3
    for _ in range(7):
        api.get("account")
    assert place.clock.now - 1_760_000_000 == pytest.approx(120, abs=2)


@pytest.mark.parametrize(
    ("scopes", "method", "path", "says"),
    [
        (
            None,
            "GET",
            "account",
            r"does not accept the token: .*Unable to authenticate you.*account/api/tokens",
        ),
        ((), "GET", "account", r"the token lacks the right account:read: .*HTTP 403"),
        ((), "GET", "account/keys", r"ssh_key:read"),
        ((), "POST", "tags", r"tag:create"),
        ((), "DELETE", "droplets/1", r"droplet:delete"),
    ],
)
def test_a_token_that_is_not_good_enough(
    place: Place, scopes: tuple[str, ...] | None, method: str, path: str, says: str
) -> None:
    token = "dop_v1_wrong" if scopes is None else place.fake.another_token(*scopes)
    api = Api(token, place.fake.end_point, sleep=place.clock.sleep, clock=place.clock)
    with pytest.raises(ProviderError, match=says) as raised:
        api.get_data(path, method, {"name": "t"} if method == "POST" else None)
    assert raised.value.status in {401, 403}
    assert raised.value.request_id
    assert place.clock.slept == []


def test_an_error_has_the_apis_own_words(api: Api) -> None:
    with pytest.raises(
        ProviderError, match=r"refuses POST vpcs: DigitalOcean says “invalid region”"
    ) as raised:
        api.post("vpcs", {"name": "v", "region": "moon1"})
    error = raised.value
    assert (error.status, error.identity, error.reason) == (422, "unprocessable_entity", "invalid region")


def test_a_delete_of_what_is_gone_is_a_success(api: Api) -> None:
    api.delete("droplets/17")


def test_nulls_are_not_sent(place: Place, api: Api) -> None:
    api.post("vpcs", {"name": "v", "region": "fra1", "description": None})
    place.fake.check()


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"<html>Bad gateway</html>", 502, "HTTP 502"),
        (b"<html>Welcome to the hotel</html>", 200, "an answer that cannot be read"),
        (b"[1, 2]", 200, "no API of DigitalOcean"),
        (b"{}", 302, "HTTP 302"),
        (b"<html>gone</html>", 410, "HTTP 410"),
    ],
)
def test_answers_that_are_not_the_apis(clock: Clock, odd: Odd, body: bytes, status: int, says: str) -> None:
    api = Api(TOKEN, odd(body, status), sleep=clock.sleep, clock=clock)
    with pytest.raises(ProviderError, match=says):
        api.get("account")


def test_nobody_there(clock: Clock) -> None:
    api = Api(TOKEN, "http://127.0.0.1:9/v2", sleep=clock.sleep, clock=clock)
    with pytest.raises(ProviderError, match="no connection, or one that broke; check the network"):
        api.get("account")


@pytest.mark.parametrize("token", ["", "  ", "two words", "line\nbreak", "smart “quotes”"])
def test_what_is_no_token_is_never_sent(token: str) -> None:
    with pytest.raises(ProviderError, match="not one") as raised:
        Api(token, "https://api.digitalocean.com/v2/")
    assert not token.strip() or token not in str(raised.value)


def test_a_token_from_a_file_may_end_in_a_line_break(place: Place) -> None:
    assert Api(f"{place.fake.token}\n", place.fake.end_point).get("account")


def test_an_end_point_is_an_address() -> None:
    with pytest.raises(ProviderError, match=r"'api\.digitalocean\.com' is no API's address"):
        Api(TOKEN, "api.digitalocean.com")


def test_a_netrc_does_not_replace_the_token(
    place: Place, api: Api, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert api.get("account")["account"]["status"] == "active"


def test_the_token_is_in_no_log_no_message_and_no_repr(
    clock: Clock, odd: Odd, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITALOCEAN_ACCESS_TOKEN", "another-secret")
    caplog.set_level(logging.DEBUG)
    ends = (odd(b"nothing", 500), odd(b'{"message": "no"}', 401), "http://127.0.0.1:9/v2")
    seen = []
    for end in ends:
        api = Api(TOKEN, end, sleep=clock.sleep, clock=clock)
        seen += [repr(api), str(api), repr(api.tokens)]
        with pytest.raises(ProviderError) as raised:
            api.get("account")
        seen += traceback.format_exception(raised.value)
    everything = "\n".join([*seen, caplog.text])
    assert "GET account: HTTP 500" in everything
    assert TOKEN not in everything
    assert "another-secret" not in everything


def test_the_fake_notices_a_wrong_request(place: Place) -> None:
    """What the other tests rely on."""
    with FakeDigitalOcean() as fake:
        api = Api(fake.token, fake.end_point)
        with pytest.raises(ProviderError, match="HTTP 400"):
            api.post("tags", {"name": "t", "colour": "red"})
        assert fake.violations
