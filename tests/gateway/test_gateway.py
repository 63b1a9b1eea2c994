"""Knocking at the gateway: what gets through to the services behind it, and as what."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from urllib.parse import urlsplit

import pytest
import requests

from tests.gateway.conftest import FILES, OWN, READ, WRITE, Gateway, bearer
from tests.influx import program

PASSES = {"read": ("/query?q=SHOW+DATABASES", READ), "write": ("/api/v2/write?bucket=b", WRITE)}


# -- the database --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["Token", "Bearer", "bearer"])
def test_a_token_passes_and_is_exchanged(gateway: Gateway, scheme: str) -> None:
    gateway.influx.asked.clear()

    assert gateway.raw("GET", PASSES["read"][0], headers=bearer(READ, scheme)).status_code == 204
    points = gateway.raw("POST", PASSES["write"][0], headers=bearer(WRITE, scheme), data=b"m x=1")
    assert points.status_code == 204

    assert [(one.path, one.body) for one in gateway.influx.asked] == [
        (PASSES["read"][0], b""),
        (PASSES["write"][0], b"m x=1"),
    ]
    said = [one.headers["Authorization"] for one in gateway.influx.asked]
    assert said == [f"Token {OWN['read']}", f"Token {OWN['write']}"]


@pytest.mark.parametrize(
    "change", [str.lower, str.upper, str.swapcase, lambda text: text + "x", lambda text: text[:-1]]
)
def test_a_token_of_another_case_or_length_is_none(gateway, change) -> None:
    gateway.influx.asked.clear()
    for path, token in PASSES.values():
        method = "POST" if "write" in path else "GET"
        assert gateway.raw(method, path, headers=bearer(change(token))).status_code == 401
        assert (
            requests.request(
                method, gateway.inside + path, headers=bearer(change(token)), timeout=10
            ).status_code
            == 401
        )
    assert gateway.influx.asked == []


@pytest.mark.parametrize(
    "path",
    [
        "/debug/vars/..%2f..%2fquery?q=SHOW+DATABASES",
        "/debug/vars/../../query?q=SHOW+DATABASES",
        "/debug/vars/%2e%2e/%2e%2e/query?q=SHOW+DATABASES",
        "/files/..%2Fquery?q=SHOW+DATABASES",
        "/queue/..%2f/grafana/",
        "/grafana/%2E%2E%2fqueue/",
        "/./query?q=SHOW+DATABASES",
        "/files/..",
    ],
)
def test_a_path_that_could_mean_another_is_refused(gateway: Gateway, path: str) -> None:
    gateway.influx.asked.clear()
    gateway.grafana.asked.clear()

    answer = gateway.raw("GET", path, headers=bearer(READ))

    assert (answer.status_code, "dot segments" in answer.text) == (400, True)
    assert gateway.influx.asked == gateway.grafana.asked == []


@pytest.mark.parametrize("path", ["//query?q=SHOW+DATABASES", "/%71uery?q=SHOW+DATABASES"])
def test_the_database_is_asked_by_fixed_paths_however_they_were_sent(gateway: Gateway, path: str) -> None:
    gateway.influx.asked.clear()

    assert gateway.raw("GET", path, headers=bearer(READ)).status_code == 204

    assert [one.path for one in gateway.influx.asked] == ["/query?q=SHOW+DATABASES"]


# -- other protocols -----------------------------------------------------------------------------------

H2C = {
    "Connection": "Upgrade, HTTP2-Settings",
    "Upgrade": "h2c",
    "HTTP2-Settings": "AAMAAABkAAQCAAAAAAIAAAAA",
}


def test_what_asks_for_another_protocol_is_stored_nevertheless(gateway: Gateway) -> None:
    file = {"headers": bearer(FILES) | H2C, "data": b"contents"}
    assert gateway.raw("PUT", "/files/h2c", **file).ok
    assert gateway.raw("GET", "/files/h2c", headers=bearer(FILES)).content == b"contents"

    gateway.influx.asked.clear()
    argv = [
        program("curl"),
        "-sS",
        "--http2",
        "-H",
        f"Authorization: Token {WRITE}",
        "--data-binary",
        "m x=1",
    ]
    subprocess.run([*argv, f"{gateway.inside}{PASSES['write'][0]}"], check=True, timeout=20)
    (point,) = gateway.influx.asked
    assert (point.body, point.headers.get("Upgrade")) == (b"m x=1", None)


def test_only_grafana_is_asked_for_websockets(gateway: Gateway) -> None:
    gateway.grafana.asked.clear()
    websocket = {"Connection": "Upgrade", "Upgrade": "websocket"}

    gateway.raw("GET", "/grafana/api/live/ws", headers=websocket)
    gateway.raw("GET", "/grafana/", headers=H2C)

    said = [(one.headers.get("Upgrade"), one.headers.get("Connection")) for one in gateway.grafana.asked]
    assert said == [("websocket", "upgrade"), (None, None)]


# -- addresses and pages -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/queue", "/grafana"])
def test_a_short_address_leads_to_the_same_port(gateway: Gateway, path: str) -> None:
    answer = gateway.raw("GET", path, headers={"Host": "master.example"})

    assert (answer.status_code, answer.headers["Location"]) == (301, f"{path}/")


def test_the_first_page_links_what_is_there(gateway: Gateway) -> None:
    page = gateway.raw("GET", "/")

    assert page.status_code == 200
    assert re.findall('href="([^"]*)"', page.text) == ["/grafana/", "/queue/"]
    assert "artifacts" not in page.text
    assert "<!--" not in page.text


@pytest.mark.parametrize("gateway", ["0"], indirect=True)
def test_without_grafana_nothing_leads_there_and_nobody_waits(gateway: Gateway) -> None:
    page = gateway.raw("GET", "/")
    assert page.status_code == 200
    assert "/queue/" in page.text
    assert "rafana" not in page.text

    for path in ("/grafana", "/grafana/", "/grafana/d/x"):
        answer = gateway.raw("GET", path)
        assert answer.status_code == 404
        assert "This stack has no Grafana" in answer.text
        assert "refresh" not in answer.text
    assert gateway.raw("GET", "/health").ok
    assert gateway.raw("GET", "/no-grafana.html").status_code == 404


def test_a_request_that_is_none_gets_no_further(gateway: Gateway) -> None:
    """A second request is hidden in a first, or the path in a whole URL."""
    gateway.influx.asked.clear()
    where = urlsplit(gateway.outside)
    smuggled = f"GET /query?q=DROP HTTP/1.1\r\nHost: x\r\nAuthorization: Token {OWN['read']}\r\n\r\n"
    context = ssl.create_default_context(cafile=gateway.ca_file)
    for head in (
        f"POST {PASSES['write'][0]} HTTP/1.1\r\nHost: x\r\nAuthorization: Token {WRITE}\r\n"
        f"Content-Length: {len(smuggled)}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        f"GET {PASSES['read'][0]} HTTP/1.1\r\nHost: x\r\nAuthorization: Token {READ}\r\n"
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "GET http://x/debug/vars/..%2f..%2fquery?q=SHOW HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Token {READ}\r\n\r\n",
    ):
        with (
            socket.create_connection((where.hostname or "", where.port or 0), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
        ):
            client.sendall((head + smuggled).encode())
            assert client.recv(100).split()[1] == b"400"
    assert gateway.influx.asked == []
