"""The endpoint that takes points and keeps none, written to by an unmodified InfluxDB client."""

from __future__ import annotations

import urllib.request

import pytest
from influxdb_client import InfluxDBClient, Point
from influxdb_client.client.write_api import SYNCHRONOUS

from cloudburst.points.sink import Sink


@pytest.mark.parametrize("gzip", [False, True])
def test_what_a_client_writes_is_counted_line_by_line(gzip):
    with (
        Sink() as sink,
        InfluxDBClient(sink.url, token="t", org="o", enable_gzip=gzip) as client,
        client.write_api(write_options=SYNCHRONOUS) as points,
    ):
        points.write("b", record=[Point("flow").field("value", float(n)).time(n) for n in range(3)])
        points.write("b", record=Point("head").field("value", 1.0))

        assert sink.points == 4


def test_a_body_that_is_not_what_it_says_is_taken_all_the_same():
    with Sink() as sink:
        request = urllib.request.Request(
            f"{sink.url}/api/v2/write", data=b"not gzip", headers={"Content-Encoding": "gzip"}
        )
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 204
        assert sink.points == 0
