"""The gateway in front of a database that guards itself: what the two roles may do, by clients of its own."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from influxdb_client import InfluxDBClient, Permission, PermissionResource, Point
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

from cloudburst import names
from tests.gateway.conftest import READ, WRITE, Gateway, bearer
from tests.influx2 import Influx2
from tests.wait import wait_until

pytestmark = [
    pytest.mark.filterwarnings("ignore:This method is deprecated"),  # health(), which users call
    pytest.mark.filterwarnings("ignore:.*pivot"),
    pytest.mark.filterwarnings("ignore:org_id is deprecated"),
]
Guarded = tuple[Gateway, Influx2]
FLUX = f'from(bucket: "{names.BUCKET}") |> range(start: 0)'
POINT = Point("m").tag("ensemble", "e").field("x", 1.5).time(1_700_000_000_000_000_000)


def client(url: str, token: str, gateway: Gateway) -> InfluxDBClient:
    return InfluxDBClient(url, token, org=names.ORG, ssl_ca_cert=gateway.ca_file)


def by_both(gateway: Gateway, url: str, asked: dict[str, str]) -> Iterator[dict[str, Any]]:
    """What InfluxQL answers by GET and by POST."""
    for method, place in (("GET", "params"), ("POST", "data")):
        options: dict[str, Any] = {"headers": bearer(READ), "verify": gateway.ca_file, place: asked}
        yield requests.request(method, f"{url}/query", timeout=10, **options).json()


@pytest.fixture(params=["outside", "inside"])
def url(request: pytest.FixtureRequest, guarded: Guarded) -> str:
    return str(getattr(guarded[0], request.param))


def test_the_database_s_own_client_works_unmodified(guarded: Guarded, url: str) -> None:
    gateway, _ = guarded
    with client(url, WRITE, gateway) as writer:
        assert writer.ping()
        assert writer.health().status == "pass"
        writer.write_api(write_options=SYNCHRONOUS).write(names.BUCKET, record=POINT)
    with client(url, READ, gateway) as reader:
        assert reader.health().name == "influxdb"
        found = [record for table in reader.query_api().query(FLUX) for record in table.records]
        assert 1.5 in [record.get_value() for record in found]
        frames = reader.query_api().query_data_frame(f'{FLUX} |> filter(fn: (r) => r._field == "x")')
        assert "_value" in (frames[0] if isinstance(frames, list) else frames).columns
        buckets = reader.buckets_api()
        assert [one.name for one in buckets.find_buckets().buckets] == [names.BUCKET]
        bucket = buckets.find_bucket_by_name(names.BUCKET)
        assert buckets.find_bucket_by_id(bucket.id).name == names.BUCKET
        asked = {"db": names.BUCKET, "q": "SELECT x FROM m", "epoch": "ns"}
    for answer in by_both(gateway, url, asked):
        assert answer["results"][0]["series"][0]["values"] == [[1_700_000_000_000_000_000, 1.5]]


ORG_ID = "0123456789abcdef"
EVERYTHING = Permission(action="write", resource=PermissionResource(type="buckets", org_id=ORG_ID))
CHANGES: list[Callable[[InfluxDBClient], object]] = [
    lambda one: one.write_api(write_options=SYNCHRONOUS).write(names.BUCKET, record=POINT),
    lambda one: one.query_api().query(f'{FLUX} |> to(bucket: "{names.BUCKET}")'),
    lambda one: one.delete_api().delete("1970-01-01T00:00:00Z", "2100-01-01T00:00:00Z", "", names.BUCKET),
    lambda one: one.buckets_api().create_bucket(bucket_name="other", org_id=ORG_ID),
    lambda one: one.authorizations_api().create_authorization(ORG_ID, [EVERYTHING]),
]


@pytest.mark.parametrize("token", [READ, WRITE])
@pytest.mark.parametrize("change", CHANGES)
def test_nothing_can_be_changed_but_by_writing_points(guarded: Guarded, token: str, change) -> None:
    gateway, influx = guarded
    before = json.dumps(influx.ask("GET", "buckets"))
    with client(gateway.outside, token, gateway) as one:
        if token == WRITE and change is CHANGES[0]:
            change(one)
            return
        with pytest.raises(ApiException) as refused:
            change(one)
    assert refused.value.status in {401, 403, 404}
    assert json.dumps(influx.ask("GET", "buckets")) == before
    assert len(influx.ask("GET", "authorizations")["authorizations"]) == 3


@pytest.mark.parametrize("token", [READ, WRITE])
@pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE"])
def test_other_methods_do_not_pass(guarded: Guarded, token: str, method: str) -> None:
    gateway, influx = guarded
    (bucket,) = (one for one in influx.ask("GET", "buckets")["buckets"] if one["name"] == names.BUCKET)

    answer = gateway.raw(method, f"/api/v2/buckets/{bucket['id']}", headers=bearer(token), data=b"{}")

    assert answer.status_code == 403
    assert bucket in influx.ask("GET", "buckets")["buckets"]


@pytest.mark.parametrize(
    "query", ["DROP MEASUREMENT m", "SELECT x FROM m; DELETE FROM m", "SELECT x INTO o FROM m"]
)
def test_a_reader_s_influxql_changes_nothing(guarded: Guarded, query: str) -> None:
    gateway, _ = guarded
    with client(gateway.outside, WRITE, gateway) as writer:
        writer.write_api(write_options=SYNCHRONOUS).write(names.BUCKET, record=POINT)
    for answer in by_both(gateway, gateway.outside, {"db": names.BUCKET, "q": query}):
        assert "error" in answer["results"][-1]

    asked = {"db": names.BUCKET, "q": "SHOW MEASUREMENTS"}
    there = gateway.raw("POST", "/query", headers=bearer(READ), data=asked).json()
    assert there["results"][0]["series"][0]["values"] == [["m"]]


def test_a_bucket_that_is_made_later_is_readable_too(guarded: Guarded) -> None:
    gateway, influx = guarded

    before = gateway.tokens_made

    for number in range(100):  # so many are listed at once
        influx.make(f"somebody-elses-{number}")
    influx.make(names.BUCKET_STACK)

    wait_until(lambda: gateway.tokens_made > before, 20, "new tokens")
    for name, readable in ((names.BUCKET, 1), (names.BUCKET_STACK, 1), ("somebody-elses-0", 0)):
        listed = gateway.raw("GET", f"/api/v2/buckets?name={name}", headers=bearer(READ)).json()["buckets"]
        assert len(listed) == readable
    assert len(influx.ask("GET", "authorizations")["authorizations"]) == 3


def test_tokens_are_made_again_when_the_database_has_lost_them_and_writers_wait(guarded: Guarded) -> None:
    """As after a restore. A write in between is answered by 503: it comes again."""
    gateway, influx = guarded
    for one in influx.ask("GET", "authorizations")["authorizations"]:
        if one["description"].startswith("cloudburst gateway"):
            influx.ask("DELETE", f"authorizations/{one['id']}")
    influx.restart()

    statuses = []

    def written() -> bool:
        path = f"/api/v2/write?org={names.ORG}&bucket={names.BUCKET}"
        statuses.append(
            gateway.raw("POST", path, headers=bearer(WRITE), data=b"m,ensemble=e x=1 1").status_code
        )
        return statuses[-1] == 204

    wait_until(written, 30, "new tokens")
    assert set(statuses) == {503, 204}


def test_the_gateway_says_why_there_are_no_tokens(guarded: Guarded) -> None:
    gateway, influx = guarded
    assert influx._process
    influx._process.send_signal(signal.SIGKILL)
    wait_until(lambda: "curl:" in gateway.log.read_text(), 20, "a reason")

    answer = gateway.raw("GET", "/api/v2/buckets", headers=bearer(READ))

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert gateway.raw("GET", "/health").json()["ok"] is True
    said = gateway.log.read_text()
    assert not any(secret in said for secret in (READ, WRITE, "Operator"))
