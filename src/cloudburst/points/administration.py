"""What an operator changes in InfluxDB 2: how long it keeps points, and by which name InfluxQL finds them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.domain.bucket_retention_rules import BucketRetentionRules
from influxdb_client.domain.dbrp_create import DBRPCreate
from influxdb_client.domain.patch_bucket_request import PatchBucketRequest
from influxdb_client.rest import ApiException
from influxdb_client.service.buckets_service import BucketsService
from influxdb_client.service.dbr_ps_service import DBRPsService

from cloudburst.errors import ConfigError, PointsError
from cloudburst.points.database import Login

TIMEOUT_S = 10.0

SHORTEST_S = 3600
"""InfluxDB keeps points for an hour at least."""

RETENTION_POLICY = "autogen"
"""What InfluxDB 1 calls the usual one, and InfluxDB 2 its mapping of a bucket's own name."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def retention_s(text: str) -> int:
    """Seconds in ``90d``, ``12h``, ``52w``; 0, for ever, in ``0`` and ``0s``. Raises ConfigError."""
    found = re.fullmatch(r"(\d+)([smhdw]?)", text)
    if not found or (not found[2] and int(found[1])):
        raise ConfigError(f"retention: should be a number with s, m, h, d or w, such as 90d, got {text!r}")
    seconds = int(found[1]) * _UNITS[found[2] or "s"]
    if 0 < seconds < SHORTEST_S:
        raise ConfigError(f"retention: should be 1h or more, or 0 for ever, got {text!r}")
    return seconds


def set_retention(login: Login, seconds: int) -> bool:
    """Keep the bucket's points for so long, 0: for ever; whether that is a change.

    ``login`` needs a token that may change buckets. Older points go within the hour, for good. Raises
    PointsError.
    """
    with _client(login) as client:
        service = BucketsService(client.api_client)
        found = service.get_buckets(name=login.bucket, org=login.org).buckets
        if not found:
            raise PointsError(f"{login.url} has no bucket {login.bucket!r} in organisation {login.org!r}")
        bucket = found[0]
        before = bucket.retention_rules[0].every_seconds if bucket.retention_rules else 0
        if before == seconds:
            return False
        rule = BucketRetentionRules(type="expire", every_seconds=seconds)
        service.patch_buckets_id(bucket.id, PatchBucketRequest(retention_rules=[rule]))
        return True


def map_database(login: Login) -> bool:
    """Let InfluxQL find the bucket as the database of the same name; whether that was needed.

    InfluxDB maps the name of each bucket by itself, unless other mappings were made for it:
    https://docs.influxdata.com/influxdb/v2/query-data/influxql/dbrp/. Raises PointsError.
    """
    with _client(login) as client:
        service = DBRPsService(client.api_client)
        if service.get_dbr_ps(org=login.org, db=login.bucket).content:
            return False
        buckets = BucketsService(client.api_client).get_buckets(name=login.bucket, org=login.org).buckets
        if not buckets:
            raise PointsError(f"{login.url} has no bucket {login.bucket!r} in organisation {login.org!r}")
        service.post_dbrp(
            DBRPCreate(
                org=login.org,
                bucket_id=buckets[0].id,
                database=login.bucket,
                retention_policy=RETENTION_POLICY,
                default=True,
            )
        )
        return True


@contextmanager
def _client(login: Login) -> Iterator[InfluxDBClient]:
    client = InfluxDBClient(login.url, token=login.token, org=login.org, timeout=round(TIMEOUT_S * 1000))
    try:
        yield client
    except ApiException as error:
        reason = "it is no InfluxDB 2" if error.status == 404 else "does the token let it be changed?"
        raise PointsError(f"{login.url} answers {error.status} ({reason})") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise PointsError(f"{login.url} does not answer ({error})") from error
    finally:
        client.close()
