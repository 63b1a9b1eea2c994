"""Line protocol is read as strictly as by InfluxDB, and everything that ``encode`` writes comes back."""

from __future__ import annotations

import math
import shutil
import string
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudburst.points.line import encode
from cloudburst.points.parse import (
    KEY_LIMIT,
    LINE_LIMIT,
    LineError,
    Point,
    Series,
    parse,
    whole_lines,
)

NOW = 1_700_000_000_123_456_789


def read(text: str, precision: str = "ns") -> list[Point]:
    return list(parse(text, precision=precision, now=NOW))


def only(text: str) -> Point:
    (point,) = read(text)
    return point


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1", 1.0),
        ("-1.5e-3", -0.0015),
        ("+.5", 0.5),
        ("1.", 1.0),
        ("1E5", 1e5),
        ("5i", 5),
        ("-9223372036854775808i", -(2**63)),
        ("18446744073709551615u", 2**64 - 1),
        *((word, True) for word in ("t", "T", "true", "True", "TRUE")),
        *((word, False) for word in ("f", "F", "false", "False", "FALSE")),
        ('""', ""),
        (r'"say \"hi\" \\ \n"', r'say "hi" \ \n'),
        ('"two\nlines"', "two\nlines"),
        ('"a,b=c d"', "a,b=c d"),
    ],
)
def test_values_have_the_type_that_they_are_written_with(written, value):
    (read_value,) = only(f"m v={written} 1").fields.values()

    assert read_value == value
    assert type(read_value) is type(value)


@pytest.mark.parametrize(
    ("line", "point"),
    [
        ("m v=1 5", Point(Series("m", ()), 5, {"v": 1.0})),
        ("m v=1", Point(Series("m", ()), NOW, {"v": 1.0})),
        ("m v=1 -5", Point(Series("m", ()), -5, {"v": 1.0})),
        ("  m  v=1,w=2i   5  ", Point(Series("m", ()), 5, {"v": 1.0, "w": 2})),
        ("m,b=2,a=1 v=1 5", Point(Series("m", (("a", "1"), ("b", "2"))), 5, {"v": 1.0})),
        (r"m\,x\ y,a\=b=c\ d e\,f=1 5", Point(Series("m,x y", (("a=b", "c d"),)), 5, {"e,f": 1.0})),
        (r"m\x\=y,t=a\b v=1 5", Point(Series(r"m\x\=y", (("t", r"a\b"),)), 5, {"v": 1.0})),
        ('m,t="q" "v"=1 5', Point(Series("m", (("t", '"q"'),)), 5, {'"v"': 1.0})),
        ("m=x v=1 5", Point(Series("m=x", ()), 5, {"v": 1.0})),
        ("größe,ort=köln höhe=1 5", Point(Series("größe", (("ort", "köln"),)), 5, {"höhe": 1.0})),
    ],
)
def test_lines_of_every_form(line, point):
    assert only(line) == point


def test_comments_empty_lines_and_line_ends_of_windows_are_skipped():
    text = '# head\r\n\r\nm v=1 1\r\n   \n  # more a=1 2\nm v="#x\n#y" 2\n'

    assert [(point.time, point.fields["v"]) for point in read(text)] == [(1, 1.0), (2, "#x\n#y")]


@pytest.mark.parametrize(("precision", "unit"), [("ns", 1), ("us", 10**3), ("ms", 10**6), ("s", 10**9)])
def test_times_are_in_the_precision_of_the_request(precision, unit):
    given_time, now = read("m v=1 7\nm v=1", precision)

    assert given_time.time == 7 * unit
    assert now.time == NOW - NOW % unit


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("m", "missing fields"),
        ("m,t=1", "missing fields"),
        ("m v", "invalid field format"),
        ("m v=", "missing field value"),
        ("m =1", "missing field key"),
        ("m v=1,", "invalid field format"),
        ("m v=1,,w=1", "invalid field format"),
        ("m v= 1", "missing field value"),
        (",t=1 v=1", "missing measurement"),
        ("m, v=1", "missing tag key"),
        ("m,t v=1", "missing tag value"),
        ("m,t= v=1", "missing tag value"),
        ("m,=1 v=1", "missing tag key"),
        ("m,t=1=2 v=1", "invalid tag format"),
        ("m,t=1,t=2 v=1", "duplicate tags"),
        ("m,time=1 v=1", "invalid tag key"),
        ("m time=1", "invalid field name"),
        ("m v=1_0", "invalid number"),
        ("m v=1e400", "invalid number"),
        ("m v=-", "invalid number"),
        ("m v=0x10", "invalid number"),
        ("m v=9223372036854775808i", "invalid number"),
        ("m v=-1u", "invalid number"),
        ("m v=1_0i", "invalid number"),
        ("m v=nan", "invalid field format"),
        ("m v=tru", "invalid boolean"),
        ("m v=word", "invalid field format"),
        ('m v="open', "unbalanced quotes"),
        ('m v="x"y 1', "invalid field format"),
        ("m v=1 tomorrow", "bad timestamp"),
        ("m v=1 1.5", "bad timestamp"),
        ("m v=1 1 1", "bad timestamp"),
        ("m v=1 9223372036854775807", "time outside range"),
        ("m v=1 99999999999999999999", "time outside range"),
    ],
)
def test_an_error_names_the_line_its_number_and_what_is_wrong(line, reason):
    points = parse(f"# comment\nok v=1\n{line}\nok v=2\n", now=NOW)

    assert next(points).series.measurement == "ok"
    with pytest.raises(LineError) as caught:
        next(points)

    assert caught.value.line == 3
    assert reason in caught.value.reason
    assert str(caught.value).startswith(f"line 3: unable to parse '{line}': ")


def test_a_line_that_does_not_end_takes_no_longer_than_its_length():
    # Regular expressions of the careless kind would take years.
    for text in (
        "m " + "a=1," * 50_000,
        "m a=" + "\\," * 100_000,
        'm a="' + "\\\\" * 100_000,
        "m," * 100_000,
    ):
        began = time.process_time()
        with pytest.raises(LineError):
            read(text)
        assert time.process_time() - began < 5


# -- both ways --------------------------------------------------------------------------------------------

# Control characters, halves of surrogate pairs and a backslash at the end are what encode refuses.
names = (
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)
    .filter(lambda name: not name.endswith("\\"))
    .filter(lambda name: name != "time")
) | st.text(" ,=\\\"#'x", min_size=1, max_size=6).filter(lambda name: not name.endswith("\\"))
measurements = names.filter(lambda name: not name.startswith("#"))
values = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**63), 2**63 - 1)
    | st.booleans()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.text('"\\\n, =#', max_size=8)
)
fields = st.dictionaries(names, values, min_size=1, max_size=4)
tags = st.dictionaries(names, names, max_size=3)
FIRST, LAST = (round(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 10**9 for year in (1678, 2262))
times = st.integers(FIRST, LAST - 1)  # those that jobs may write
points = st.builds(
    Point, st.builds(lambda m, t: Series(m, tuple(sorted(t.items()))), measurements, tags), times, fields
)


def written(point: Point) -> str:
    return encode(point.series.measurement, point.fields, dict(point.series.tags), point.time)


def exact(point: Point) -> tuple[object, ...]:
    kinds = {
        name: (type(value), math.copysign(1, value) if isinstance(value, float) else 0)
        for name, value in point.fields.items()
    }
    return *point, kinds


@settings(max_examples=150, deadline=None)
@given(st.lists(points, min_size=1, max_size=4))
def test_what_is_encoded_comes_back_exactly(some):
    text = "\n".join(written(point) for point in some)

    assert [exact(point) for point in read(text)] == [exact(point) for point in some]


@settings(max_examples=100, deadline=None)
@given(st.lists(points, min_size=1, max_size=4))
def test_text_is_cut_into_the_lines_of_which_it_was_made(some):
    lines = [(written(point) + "\n").encode() for point in some]

    assert list(whole_lines(b"".join(lines))) == lines


@settings(max_examples=150, deadline=None)
@given(st.text(string.printable, max_size=60))
def test_any_text_is_either_read_or_refused_with_a_line_error(text):
    line = 1
    try:
        read(text)
    except LineError as error:
        line = error.line

    assert 1 <= line <= text.count("\n") + 1


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80))
def test_cutting_loses_no_byte_whatever_the_text(lines):
    assert b"".join(whole_lines(lines)) == lines


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("m" * 70_000 + " v=1", "max key length exceeded: 70005 > 65535"),
        ("m," + ",".join(f"t{i}=x" for i in range(20_000)) + " v=1", "max key length exceeded"),
        ("m " + "f" * 70_000 + "=1", "max key length exceeded: 70005 > 65535"),
        ("ü" * 40_000 + " v=1", "max key length exceeded: 80005 > 65535"),
        ("m" * LINE_LIMIT * 2 + " v=1", "line too long"),
        ('m v="' + r"\"" * LINE_LIMIT + '"', "line too long"),
        ("m v=" + "1" * LINE_LIMIT, "line too long"),
        ("#" * (LINE_LIMIT + 1), "line too long"),
        (" " * (LINE_LIMIT + 1) + "\nm v=1", "line too long"),
        ("m v=1 " + "9" * 5000, "time outside range"),
        ("m v=1 -" + "9" * 50_000, "time outside range"),
        ("m v=" + "9" * 5000 + "i", "invalid number"),
        ("m v=1e" + "9" * 5000, "invalid number"),
    ],
    ids=lambda value: value[:12],
)
def test_what_is_longer_than_influxdb_takes_is_refused(text, reason):
    with pytest.raises(LineError) as caught:
        read("first v=1 1\n" + text)

    assert caught.value.line == 2
    assert reason in caught.value.reason
    assert len(str(caught.value)) < 500


def test_what_is_just_short_enough_is_taken():
    name = "m" * (KEY_LIMIT - 5)
    value = "x" * (LINE_LIMIT - len('m v="" 1\n'))

    points = read(f'{name} v=1 1\nm v="{value}" 1\nm v="{value}" 2\n#{"c" * (LINE_LIMIT - 1)}')

    assert [point.series.measurement for point in points] == [name, "m", "m"]
    assert points[2].fields == {"v": value}


@pytest.mark.parametrize(
    "line",
    [
        'm v="' + r"\"" * 400_000 + '" 1\n',
        'm v="' + r"\\" * 400_000 + '" 1\n',
        "m" + r"\ " * 20_000 + " v=1 1\n",
        "m," + ",".join(f"t{i}=1" for i in range(6_000)) + " v=1 1\n",
        "m " + ",".join(f"f{i}=1" for i in range(60_000)) + " 1\n",
        "m " + ",".join(f'f{i}="{i}"' for i in range(40_000)) + " 1\n",
        'm v="' + "\n" * 400_000 + '" 1\n',
        "m v=1 1\n" * 100_000,
        "#" * 1_000_000 + "\n",
    ],
    ids=lambda line: line[:12],
)
def test_reading_takes_time_in_proportion_to_the_text(line):
    # given 1 MB and 8 MB of the same
    few, many = (max(1, count // len(line)) for count in (1_000_000, 8_000_000))

    def seconds(times: int) -> float:
        began = time.process_time()
        for _ in parse(line * times, now=0):
            pass
        return (time.process_time() - began) / times

    # then a line costs the same in both, and not eight times as much
    assert seconds(many) < 4 * seconds(few) + 0.01


PYTHONS = ["python3.11", "python3.12", "python3.13", "/usr/bin/python3", sys.executable]


@pytest.mark.parametrize("python", [found for name in PYTHONS if (found := shutil.which(name))])
def test_lines_are_read_by_every_python_that_is_here(python: str) -> None:
    """Debian 12's Python 3.11.2 found no line at all, where 3.11.7 found them."""
    recent = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    if subprocess.run(recent, capture_output=True, check=False).returncode != 0:
        pytest.skip(f"{python} does not run, or is older than CloudBurst needs")
    script = (
        "from cloudburst.points import parse\n"
        "lines = 'result,ensemble=e index=1i,n=1.0 17\\nm,a=b v=\"x y\",w=t -5\\n'\n"
        "print(parse.are_whole(lines), parse.are_whole('m v=1\\n'), len(list(parse.parse(lines, now=0))))"
    )
    environ = {"PYTHONPATH": str(Path(parse.__code__.co_filename).parents[2])}

    done = subprocess.run([python, "-c", script], env=environ, capture_output=True, text=True, check=False)

    assert done.stdout.split() == ["True", "False", "2"], done.stderr
