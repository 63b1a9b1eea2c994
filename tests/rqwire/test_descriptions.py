"""Job descriptions from Python: what is stored is what was meant, or an error."""

from __future__ import annotations

import datetime as dt
import enum
import json
import math
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudburst.errors import EnsembleError
from cloudburst.rqwire.descriptions import encode_description


class Level(enum.IntEnum):
    HIGH = 2


def stored(description: dict[Any, Any]) -> Any:
    return json.loads(encode_description(description, 0))


@pytest.mark.parametrize(
    ("value", "comes_back"),
    [
        ((1, (2, 3)), [1, [2, 3]]),
        (np.int64(2**60 + 1), 2**60 + 1),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.longdouble(0.1), 0.1),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([0.5], dtype=np.longdouble).tolist(), [0.5]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([{"a": np.bool_(True)}], dtype=object), [{"a": True}]),
        ([np.str_("x"), Level.HIGH, None], ["x", 2, None]),
        ({1: "one", None: "none", 0.5: "half"}, {"1": "one", "null": "none", "0.5": "half"}),
        ("\ud800", "\ud800"),
        (2**70, 2**70),
        (-0.0, -0.0),
    ],
)
def test_what_json_has_a_form_for(value: Any, comes_back: Any) -> None:
    assert stored({"a": value}) == {"a": comes_back}


def test_not_a_number_comes_back_as_it_is() -> None:
    found = stored({"a": math.nan, "b": math.inf, "c": np.float64("nan")})

    assert [math.isnan(value) for value in found.values()] == [True, False, True]
    assert found["b"] == math.inf


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (dt.datetime(2026, 1, 1), "datetime cannot be written as JSON: give text, such as .isoformat()"),
        (dt.date(2026, 1, 1), "give text, such as .isoformat()"),
        (pd.Timestamp("2026-01-01"), "give text, such as .isoformat()"),
        (np.datetime64("2026-01-01", "ns"), "datetime64 cannot be written as JSON"),
        (np.datetime64("2026-01-01", "s"), "datetime64 cannot be written as JSON"),
        (np.timedelta64(5, "ns"), "timedelta64 cannot be written as JSON: give seconds"),
        (np.array(["2026-01-01"], dtype="datetime64[ns]"), "ndarray cannot be written as JSON"),
        (np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]), "ndarray cannot be written as JSON"),
        (np.complex128(1j), "complex128 cannot be written"),
        ({1, 2}, "set cannot be written as JSON: give a list"),
        (b"x", "bytes cannot be written"),
        (Path("x"), "PosixPath cannot be written as JSON: give text"),
        (Decimal("1.10"), "Decimal cannot be written"),
        (pd.Series([1.0], index=["a"]), "Series cannot be written as JSON: give a dict or a list"),
        (pd.DataFrame({"a": [1]}), "DataFrame cannot be written"),
        ({1: "a", "1": "b"}, "the keys 1 and '1' are the same in JSON"),
        ({"true": "a", True: "b"}, "the keys 'true' and True are the same in JSON"),
        ({(1, 2): "a"}, "the key (1, 2) is tuple: keys are texts in JSON"),
        ({np.int64(1): "a"}, "keys are texts in JSON"),
    ],
)
def test_what_it_has_none_for_is_refused_with_the_job_and_the_key(value: Any, says: str) -> None:
    with pytest.raises(EnsembleError) as caught:
        encode_description({"seed": 1, "model": {"runs": [1, value]}}, 17)

    message = str(caught.value)
    assert message.startswith("job 17: its description is not JSON (")
    assert says in message
    assert "model.runs[1]" in message


def test_a_number_of_more_digits_than_python_reads() -> None:
    with pytest.raises(EnsembleError, match="job 17: its description is not JSON"):
        encode_description({"a": 10**5000}, 17)


@pytest.mark.parametrize("description", [[1], None, "x", MappingProxyType({"a": 1})])
def test_a_description_is_a_dict(description: Any) -> None:
    with pytest.raises(EnsembleError, match=r"job 3: a job description is a JSON object"):
        encode_description(description, 3)


def test_what_is_nested_too_deep_for_any_python_to_read_it_back() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    loop: dict[str, Any] = {}
    loop["again"] = loop

    for description in ({"a": deep}, loop):
        with pytest.raises(EnsembleError, match="nested more than 100 deep"):
            encode_description(description, 0)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
    )
)
def test_json_comes_back_as_it_was(description: dict[str, Any]) -> None:
    assert stored(description) == description
