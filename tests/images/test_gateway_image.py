"""The gateway in front of a real file store, a real InfluxDB and a real queue-dash."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from influxdb_client import InfluxDBClient, Point
from influxdb_client.client.write_api import SYNCHRONOUS

from tests.images.conftest import ADDRESSES, DASH_PASSWORD, READ, WRITE, Secrets, start_influx
from tests.images.engine import SUBNET, Engine
from tests.wait import wait_until

OUTSIDE = f"https://{SUBNET}.{ADDRESSES['gateway']}:8443"
INSIDE = f"http://{SUBNET}.{ADDRESSES['gateway']}:8086"
LARGE = 300 << 20
"""More than the memory that the gateway has here."""


@pytest.fixture
def browser(secrets: Secrets, stack: Engine) -> Iterator[requests.Session]:
    """Trusts the stack's authority, and nobody else."""
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(secrets.authority.certificate)
        yield session


def bearer(token: str, kind: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{kind} {token}"}


# -- pages ---------------------------------------------------------------------------------------------


def test_the_first_page_names_the_services_to_a_newcomer(browser: requests.Session) -> None:
    page = browser.get(f"{OUTSIDE}/")

    assert page.status_code == 200
    assert page.headers["Content-Type"] == "text/html"
    for service in ("/grafana/", "/queue/", "/files/", "/query"):
        assert service in page.text


def test_an_address_that_leads_nowhere_is_answered_as_by_the_file_store(browser: requests.Session) -> None:
    for path in ("/nothing", "/grafana-away.html", "/influx.conf", "/api/v1/query", "/.env"):
        answer = browser.get(f"{OUTSIDE}{path}")

        assert answer.status_code == 404, path
        if path != "/grafana-away.html":
            assert answer.json()["ok"] is False
            assert "/files/" in answer.json()["error"]


def test_a_service_that_is_away_has_a_page_that_says_so(browser: requests.Session) -> None:
    answer = browser.get(f"{OUTSIDE}/grafana/")

    assert answer.status_code == 503
    assert "Grafana does not answer" in answer.text
    assert answer.headers["Retry-After"] == "5"
    assert browser.get(f"{OUTSIDE}/health").ok


def test_tls_is_modern_and_plain_http_is_told_so(stack: Engine, browser: requests.Session) -> None:
    plain = requests.get(OUTSIDE.replace("https", "http"), timeout=10)
    assert plain.status_code == 400
    assert "https://" in plain.json()["error"]

    address = OUTSIDE.removeprefix("https://")
    for version, accepted in (("tls1", False), ("tls1_1", False), ("tls1_2", True), ("tls1_3", True)):
        argv = ["openssl", "s_client", "-connect", address, f"-{version}", "-cipher", "ALL:@SECLEVEL=0"]
        said = subprocess.run(argv, input=b"", capture_output=True, timeout=20, check=False)
        assert (said.returncode == 0) is accepted, version


# -- files ---------------------------------------------------------------------------------------------


def test_files_go_in_and_come_out_with_tags_and_ranges(browser: requests.Session) -> None:
    browser.headers.update(bearer(WRITE))
    sent = browser.post(f"{OUTSIDE}/upload", files={"file": ("a.txt", b"0123456789")})
    assert sent.json()["path"] == "/files/a.txt"

    whole = browser.get(f"{OUTSIDE}/files/a.txt")
    part = browser.get(f"{OUTSIDE}/files/a.txt", headers={"Range": "bytes=2-4"})
    same = browser.get(f"{OUTSIDE}/files/a.txt", headers={"If-None-Match": whole.headers["ETag"]})

    assert whole.content == b"0123456789"
    assert (part.status_code, part.content) == (206, b"234")
    assert (same.status_code, same.content) == (304, b"")
    assert browser.head(f"{OUTSIDE}/files/a.txt").headers["Content-Length"] == "10"
    assert browser.put(f"{OUTSIDE}/files/b/c.txt", data=b"1").status_code in {200, 201}
    assert browser.delete(f"{OUTSIDE}/files/b/c.txt").ok


def test_a_file_needs_a_token(browser: requests.Session) -> None:
    for headers in ({}, bearer("wrong")):
        answer = browser.get(f"{OUTSIDE}/files/a.txt", headers=headers)

        assert answer.status_code == 401
        assert answer.json() == {"ok": False, "error": "authentication required"}


def test_an_upload_that_is_refused_in_its_middle_is_told_why(browser: requests.Session) -> None:
    for _ in range(30):
        browser.close()
        refused = browser.post(f"{OUTSIDE}/upload", data=iter([b"x" * (1 << 20)] * 8))
        assert refused.status_code == 401
        assert refused.json() == {"ok": False, "error": "authentication required"}


def test_a_large_file_passes_through_without_being_kept(
    browser: requests.Session, stack: Engine, tmp_path: Path
) -> None:
    browser.headers.update(bearer(WRITE))
    large = tmp_path / "large"
    with large.open("wb") as file:
        for number in range(LARGE >> 20):
            file.write(number.to_bytes(4, "big") * (1 << 18))
    with large.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        assert browser.put(f"{OUTSIDE}/files/large", data=file).ok

    back = hashlib.sha256()
    with browser.get(f"{OUTSIDE}/files/large", stream=True) as answer:
        for chunk in answer.iter_content(1 << 20):
            back.update(chunk)

    assert back.hexdigest() == digest
    assert stack.inspect("gateway")["State"]["OOMKilled"] is False
    # A folder of buffers would be in memory, which a killed nginx worker would not show.
    assert "signal 9" not in stack.logs("gateway")
    assert browser.delete(f"{OUTSIDE}/files/large").ok


# -- the database --------------------------------------------------------------------------------------


@pytest.fixture
def database(stack: Engine, browser: requests.Session) -> str:
    """Its name."""

    def there() -> bool:
        return "cloudburst" in browser.get(f"{INSIDE}/api/v2/buckets", headers=bearer(READ)).text

    wait_until(there, 30, "InfluxDB")
    return "cloudburst"


@pytest.mark.parametrize("url", [INSIDE, OUTSIDE])
def test_points_are_written_by_the_database_s_own_client(secrets: Secrets, database: str, url: str) -> None:
    ca_file = str(secrets.authority.certificate)
    with InfluxDBClient(url, WRITE, org="cloudburst", ssl_ca_cert=ca_file) as client:
        assert client.ping()
        point = Point("m").tag("via", url[:5]).field("x", 1.5).time(1_700_000_000_000_000_000)
        client.write_api(write_options=SYNCHRONOUS).write(database, record=point)

    for kind in ("Token", "Bearer"):
        parameters = {"db": database, "q": f"SELECT x FROM m WHERE via = '{url[:5]}'", "epoch": "ns"}
        answer = requests.get(
            f"{url}/query", parameters, headers=bearer(READ, kind), verify=ca_file, timeout=10
        ).json()
        assert answer["results"][0]["series"][0]["values"] == [[1_700_000_000_000_000_000, 1.5]]


@pytest.mark.parametrize("url", [INSIDE, OUTSIDE])
def test_each_role_may_do_its_own(browser: requests.Session, database: str, url: str) -> None:
    """What else the database lets nobody do: tests/gateway/test_database.py."""
    write = {"method": "POST", "url": f"{url}/api/v2/write?bucket={database}&org=o", "data": "m x=1 1"}
    flux = {"json": {"query": f'from(bucket: "{database}") |> range(start: 0)', "type": "flux"}}
    read = {"method": "POST", "url": f"{url}/api/v2/query?org=o", **flux}
    ping = {"method": "GET", "url": f"{url}/ping"}

    def statuses(**headers: str) -> tuple[int, int, int]:
        answers = [browser.request(**request, headers=headers) for request in (write, read, ping)]
        return tuple(answer.status_code for answer in answers)  # type: ignore[return-value]

    assert statuses(**bearer(WRITE, "Token")) == (204, 403, 204)
    assert statuses(**bearer(READ, "Token")) == (403, 200, 204)
    assert statuses() == statuses(**bearer("wrong")) == statuses(**bearer(WRITE, "Basic")) == (401, 401, 401)


# -- the queue in a browser ----------------------------------------------------------------------------


def test_queue_dash_is_behind_a_password(browser: requests.Session) -> None:
    assert browser.get(f"{OUTSIDE}/queue/").status_code == 401
    assert browser.get(f"{OUTSIDE}/queue/", auth=("cloudburst", "wrong")).status_code == 401
    page = browser.get(f"{OUTSIDE}/queue", auth=("cloudburst", DASH_PASSWORD))
    assert page.status_code == 200
    assert "script-src 'nonce-" in page.headers["Content-Security-Policy"]
    assert "RQ" in page.text


def test_everything_that_queue_dash_links_is_under_its_path(browser: requests.Session) -> None:
    browser.auth = ("cloudburst", DASH_PASSWORD)
    page = browser.get(f"{OUTSIDE}/queue/")
    links = set(re.findall(r'(?:href|src)="(/[^"]*)"', page.text))

    assert links
    for link in links:
        assert link.startswith("/queue/"), link
    assert 'var url = "/queue/"' in page.text, "its scripts ask for data elsewhere"
    for link in links:
        if "static" in link:
            assert browser.get(f"{OUTSIDE}{link}").ok, link
    assert browser.get(f"{OUTSIDE}/queue/0/data/queues.json").ok
    assert browser.post(f"{OUTSIDE}/queue/job/1/delete").status_code == 403


# -- life ----------------------------------------------------------------------------------------------


def test_a_service_that_comes_back_elsewhere_is_found_again(
    stack: Engine, secrets: Secrets, browser: requests.Session, database: str
) -> None:
    stack.docker("rm", "--force", "influx")
    away = browser.get(f"{INSIDE}/query?q=SHOW+DATABASES", headers=bearer(READ))
    assert away.status_code == 503
    assert browser.get(f"{OUTSIDE}/ping", headers=bearer(READ)).status_code == 503

    ADDRESSES["influx"] = 24
    start_influx(stack, secrets)

    def found() -> bool:
        return browser.get(f"{OUTSIDE}/ping", headers=bearer(READ)).status_code == 204

    wait_until(found, 30, "the database to be found")


def test_no_log_has_a_token(stack: Engine, browser: requests.Session) -> None:
    # given: a token in a query, of a request that works, one that is refused, and one that fails
    for path in ("/files/a.txt", "/upload", "/grafana/", "/nothing"):
        browser.get(f"{OUTSIDE}{path}?token={WRITE}", headers={"Referer": f"{OUTSIDE}/files/a?token={WRITE}"})
    stack.docker("pause", "filestore")
    try:
        with pytest.raises(requests.Timeout):
            browser.get(f"{OUTSIDE}/files/a.txt?token={WRITE}", timeout=1)
    finally:
        stack.docker("unpause", "filestore")

    said = stack.logs("gateway")

    assert "/files/a.txt" in said
    assert "could not be resolved" in said
    for secret in (WRITE, READ, "token="):
        assert secret not in said


def test_the_gateway_runs_as_nobody_special(stack: Engine) -> None:
    assert stack.users("gateway") == {10001}
    assert stack.users("queue-dash") == {10001}
    assert stack.users("filestore") == {10001}
