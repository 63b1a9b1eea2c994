"""The unmodified influxdb-client, as user code has it, works against the local stack."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import UTC, datetime

import pandas as pd
import pytest
from influxdb_client import InfluxDBClient, Point, WriteOptions
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException

from tests.points.endpoint import TOKEN

BUCKET = "cloudburst"


@pytest.fixture
def client(running_endpoint) -> Iterator[InfluxDBClient]:
    with InfluxDBClient(url=running_endpoint.url, token=TOKEN, org="cloudburst") as client:
        yield client


def test_it_finds_the_endpoint_well(client):
    assert client.ping() is True
    assert client.version().startswith("2.7.0")
    assert client.build() == "CloudBurst"
    assert client.ready().status == "ready"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        health = client.health()
    assert (health.name, health.status, health.version) == ("influxdb", "pass", client.version())


def test_it_finds_the_bucket(client, running_endpoint):
    api = client.buckets_api()
    found = api.find_bucket_by_name(BUCKET)

    assert api.find_buckets(org="cloudburst", limit=1, offset=0).buckets == [found]
    assert list(api.find_buckets_iter(limit=1)) == [found]
    assert found.name == BUCKET
    assert api.find_bucket_by_id(found.id) == found
    assert api.find_bucket_by_name("other") is None
    assert api.find_buckets(offset=1).buckets == []
    (org,) = client.organizations_api().find_organizations(org="cloudburst")
    assert (org.name, org.id) == ("cloudburst", found.org_id)
    client.write_api(write_options=SYNCHRONOUS).write(found.id, org=org.id, record="by_id v=1 1")
    assert running_endpoint.values("by_id") == [1.0]


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        (lambda api, found: api.create_bucket(bucket_name="more"), 405, "which nothing changes"),
        (lambda api, found: api.update_bucket(found), 405, "which nothing changes"),
        (lambda api, found: api.delete_bucket(found), 405, "which nothing changes"),
        (lambda api, found: api.find_bucket_by_id("0" * 16), 404, "bucket not found"),
        (lambda api, found: api.find_buckets(org="other"), 404, 'this stack has "cloudburst" only'),
    ],
)
def test_the_bucket_cannot_be_changed_and_others_are_not_there(client, change, status, message):
    api = client.buckets_api()
    found = api.find_bucket_by_name(BUCKET)

    with pytest.raises(ApiException) as caught:
        change(api, found)

    assert caught.value.status == status
    assert message in caught.value.message
    assert api.find_bucket_by_id(found.id) == found


def test_synchronous_writes_of_every_kind_of_record(client, running_endpoint):
    api = client.write_api(write_options=SYNCHRONOUS)
    at = datetime(2024, 1, 1, tzinfo=UTC)

    api.write(BUCKET, record="kinds,k=line v=1.5 1704067200000000000")
    api.write(
        BUCKET,
        record=["kinds,k=lines v=1.5 1704067200", "kinds,k=lines v=2.5 1704067201"],
        write_precision="s",
    )
    api.write(
        BUCKET, record=Point("kinds").tag("k", "a point, = ").field("v", 1.5).time(at, WritePrecision.MS)
    )
    api.write(
        BUCKET, record={"measurement": "kinds", "tags": {"k": "dict"}, "fields": {"v": 1.5}, "time": at}
    )
    frame = pd.DataFrame(
        {"v": [1.5, 2.5], "k": ["frame", "frame"]}, index=pd.date_range(at, periods=2, freq="s")
    )
    api.write(BUCKET, record=frame, data_frame_measurement_name="kinds", data_frame_tag_columns=["k"])

    points = running_endpoint.points("kinds")
    assert {point["tags"]["k"] for point in points} == {"line", "lines", "a point, = ", "dict", "frame"}
    assert {(point["time"], point["fields"]["v"]) for point in points} == {
        (1704067200000000000, 1.5),
        (1704067201000000000, 2.5),
    }


def test_batching_writes_arrive(client, running_endpoint):
    with client.write_api(write_options=WriteOptions(batch_size=500, flush_interval=100)) as api:
        for i in range(2000):
            api.write(BUCKET, record=f"batched v={i} {i}")

    assert sorted(running_endpoint.values("batched")) == list(range(2000))


def test_a_packing_client_works(running_endpoint):
    with InfluxDBClient(running_endpoint.url, TOKEN, org="cloudburst", enable_gzip=True) as client:
        client.write_api(write_options=SYNCHRONOUS).write(BUCKET, record="zipped v=1 1")

    assert running_endpoint.values("zipped") == [1.0]


@pytest.mark.parametrize(
    ("token", "bucket", "line", "status", "message"),
    [
        ("wrong", BUCKET, "m v=1", 401, "unauthorized access"),
        (TOKEN, "other", "m v=1", 404, 'bucket "other" not found: this stack has "cloudburst" only'),
        (TOKEN, BUCKET, "malformed", 400, "line 1: unable to parse 'malformed': missing fields"),
    ],
)
def test_its_errors_carry_our_message(running_endpoint, token, bucket, line, status, message):
    client = InfluxDBClient(running_endpoint.url, token, org="cloudburst")

    with client, pytest.raises(ApiException) as caught:
        client.write_api(write_options=SYNCHRONOUS).write(bucket, record=line)

    assert (caught.value.status, caught.value.message) == (status, message)


def test_a_query_fails_in_one_sentence_with_what_to_do(client, running_endpoint):
    with pytest.raises(ApiException) as caught:
        client.query_api().query('from(bucket: "cloudburst") |> range(start: -1h)')

    assert caught.value.status == 501
    for way in ("GET /cloudburst/points", "InfluxQL at /query", "--docker, --hosts or -n", "INFLUX_URL"):
        assert way in caught.value.message
