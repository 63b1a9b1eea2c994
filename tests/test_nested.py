"""JSON nested as deep as may be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudburst import nested

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(JSON)
def test_what_is_not_deep_is_as_with_json(value: Any) -> None:
    assert nested.loads(json.dumps(value)) == value
    assert "".join(nested._pieces(value)) == json.dumps(value)
    assert nested._folded(json.dumps(value)) == json.dumps(value)


@pytest.mark.parametrize("levels", [100, 110, 112, 980, 20_000])
def test_what_is_deep_can_be_read_and_its_deepest_part_is_a_text(levels: int) -> None:
    text = '{"a]": ["\\"[", ' * (levels // 2) + "1" + "]}" * (levels // 2)
    value: Any = nested.loads(text)
    again = nested.dumps(value)

    assert nested.loads(again) == value
    depth = 0
    while isinstance(value, dict | list):
        value = value["a]"] if isinstance(value, dict) else value[1]
        depth += 1
    assert depth == min(levels, 110)
    if levels > 110:
        assert isinstance(value, str)
        assert value.count("{") == (levels - 110) // 2
    assert nested.dumps({"a": [1, (deep := [2])], "b": deep}) == '{"a": [1, [2]], "b": [2]}'


@pytest.mark.parametrize("text", ["", "[" * 5000, "]" * 200 + "[" * 200, '"', "{" * 200 + '"' * 3, "nothing"])
def test_what_is_not_json_is_an_error_or_read_as_text(text: str) -> None:
    with pytest.raises(ValueError, match=r"never closed|Expecting|Extra data|Unterminated|property name"):
        nested.loads(text)
    assert nested.read(text.encode()) == text


def test_a_number_of_more_digits_than_python_reads_is_text() -> None:
    assert nested.read("9" * 5000) == "9" * 5000
