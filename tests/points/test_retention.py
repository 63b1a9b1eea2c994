"""How a user says how long points are kept."""

from __future__ import annotations

import pytest

from cloudburst.errors import ConfigError
from cloudburst.points.retention import retention_s

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("0s", 0), ("1h", 3600), ("90d", 7_776_000), ("52w", 31_449_600), ("3600s", 3600)],
)
def test_a_retention_is_read(text, seconds):
    assert retention_s(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "d", "90", "-1d", "1.5d", "90 days", "30m", "59s", "9" * 5000 + "d", "٩٠d"]
)
def test_what_is_no_retention_is_refused(text):
    with pytest.raises(ConfigError, match="CLOUDBURST_RETENTION: should be"):
        retention_s(text)
