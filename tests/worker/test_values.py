"""What functions return, as it is stored."""

from __future__ import annotations

import datetime
import decimal
import fractions
import json
import math
import os

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest

from cloudburst.worker.inside import frames
from cloudburst.worker.inside.values import Refused, decode, encode, plain

UTC = datetime.UTC


def stored(value):
    return json.loads(encode(plain(value)))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.datetime64("2024-01-31T06:00:00.5", "ns"), "2024-01-31T06:00:00.500000000"),
        (np.datetime64("2024-01-31", "D"), "2024-01-31"),
        (np.datetime64("2024", "Y"), "2024"),
        (np.datetime64("NaT"), None),
        (np.timedelta64(1500, "ms"), "PT1.5S"),
        (np.timedelta64(-1, "ns"), "-PT0.000000001S"),
        (np.timedelta64(2, "h"), "PT7200S"),
        (np.timedelta64(3, "M"), "P3M"),
        (np.timedelta64(2, "25s"), "PT50S"),
        (np.timedelta64("NaT", "s"), None),
        (np.array(["2024-01-01", "NaT"], dtype="datetime64[s]"), ["2024-01-01T00:00:00", None]),
        (np.array([[1, 2]], dtype="timedelta64[s]"), [["PT1S", "PT2S"]]),
        (np.array(5, dtype="timedelta64[s]"), "PT5S"),
        (datetime.datetime(2024, 1, 31, 6, tzinfo=UTC), "2024-01-31T06:00:00+00:00"),
        (datetime.date(2024, 1, 31), "2024-01-31"),
        (datetime.timedelta(hours=1, microseconds=1), "PT3600.000001S"),
        (pd.Timestamp("2024-01-31 06:00:00.000000001"), "2024-01-31T06:00:00.000000001"),
        (pd.Timedelta(1, "ns"), "PT0.000000001S"),
        ([pd.NaT, pd.NA, None], [None, None, None]),
        (decimal.Decimal("1.5"), 1.5),
        (fractions.Fraction(1, 4), 0.25),
        (np.longdouble("1.5"), 1.5),
        (np.array([1.5, 2], dtype=np.longdouble), [1.5, 2.0]),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.int64(2**62), 2**62),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([1, None, "a"], dtype=object), [1, None, "a"]),
        (np.ma.array([1, 2], mask=[False, True]), [1, None]),
        (pd.Series([1.0, 2.0], index=["a", "b"]), {"a": 1.0, "b": 2.0}),
        ({"s": pd.Series([1], index=pd.DatetimeIndex(["2024-01-01"]))}, {"s": {"2024-01-01T00:00:00": 1}}),
        (pd.Index([1, 2]), [1, 2]),
        ({7: "a", 2.5: "b", None: "c", True: "d"}, {"7": "a", "true": "d", "2.5": "b", "null": "c"}),
        ((1, (2,)), [1, [2]]),
        (2**200, 2**200),
        ("zoë \u2028", "zoë \u2028"),
    ],
    ids=repr,
)
def test_what_is_returned_is_stored_as_documented(value, expected):
    assert stored(value) == expected


def test_what_is_not_finite_comes_back_as_it_was():
    found = stored([math.nan, math.inf, -math.inf, np.float32("nan"), decimal.Decimal("Infinity")])

    assert math.isnan(found[0])
    assert math.isnan(found[3])
    assert found[1:3] + found[4:] == [math.inf, -math.inf, math.inf]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({1: "a", "1": "b"}, "two keys that are '1'"),
        (pd.Series([1, 2], index=["a", "a"]), "two keys that are 'a'"),
        (pd.DataFrame({"a": [1]}), "a DataFrame): write it as points"),
        ({"deep": {"frame": pd.DataFrame({"a": [1]})}}, "a DataFrame at deep/frame)"),
        ({os.fsdecode(b"caf\xe9"): 1}, "no Unicode"),
        ([os.fsdecode(b"caf\xe9.inp")], "no Unicode, 'caf\\udce9.inp' at 0"),
        (np.array([(1, 2)], dtype=[("a", int), ("b", int)]), "a structured array"),
        ({(1, 2): 3}, "a key that is a tuple"),
        (10**5000, "more than 4300 digits"),
        (np.longdouble("1e4000"), "beyond the range of floats"),
        (decimal.Decimal("1e400"), "beyond the range of floats"),
        (np.timedelta64(5), "without a unit"),
        (1j, "complex found in it"),
        (np.array([1j]), "complex found in it at 0"),
        (b"bytes", "bytes found in it"),
        ({1, 2}, "set found in it"),
        (object(), "object found in it"),
        ("x" * 70_000, "more than 65,536 bytes"),
        (np.zeros(10**8, dtype=np.uint8), "more than 65,536 bytes"),
        (["é" * 20_000], "120,004 bytes"),
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_what_cannot_come_back_is_refused_in_words(value, words):
    with pytest.raises(Refused) as refused:
        stored(value)

    assert words in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_nesting_is_refused_where_it_could_not_be_read_back():
    nested: list = []
    for _ in range(frames.DEPTH_LIMIT - 1):
        nested = [nested]
    itself: list = []
    itself.append(itself)

    assert stored(nested) == nested
    for value in ([nested], itself):
        with pytest.raises(Refused, match="nested deeper than 100"):
            plain(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
)


@hypothesis.given(JSON)
def test_what_json_has_comes_back_as_it_was(value):
    assert stored(value) == value


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b"\xff",
        b"{}",
        b"5",
        b'["f", null, 5, {}]',
        b'["f", null, [], 5]',
        b"[1, null, [], {}]",
    ],
)
def test_job_data_that_is_no_call_is_refused(data):
    with pytest.raises(Refused):
        decode(data, allow_pickle=False)
