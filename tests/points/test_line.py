"""Points from user code become line protocol, whatever kind of values and times they bring."""

from __future__ import annotations

import ast
import enum
import importlib.util
import logging
import math
import os
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from cloudburst import results
from cloudburst.points import line
from cloudburst.points.line import encode, encode_frame

START = datetime(2024, 1, 1)
START_NS = 1_704_067_200_000_000_000


@pytest.fixture
def module() -> ModuleType:
    """The file as the executor loads it: by its path, with a state of its own."""
    spec = importlib.util.spec_from_file_location("cloudburst_results_of_a_job", line.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- the file ---------------------------------------------------------------------------------------------


def test_the_file_needs_nothing_but_a_standard_library_of_python_3_8():
    tree = ast.parse(Path(line.__file__).read_text(encoding="utf-8"), feature_version=(3, 8))

    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
    }
    assert imported <= set(sys.stdlib_module_names)


def test_nothing_but_annotations_says_what_python_3_8_cannot_evaluate():
    # dict[str, int] and int | None are fine as annotations there, and errors anywhere else.
    tree = ast.parse(Path(line.__file__).read_text(encoding="utf-8"))
    annotations = {
        id(part)
        for node in ast.walk(tree)
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if annotation is not None
        for part in ast.walk(annotation)
    }

    new = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if id(node) not in annotations
        and isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id in {"dict", "list", "tuple", "set"}
    ]

    assert new == []


def test_the_package_offers_the_same_function():
    assert results.write is line.write


# -- one point --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1, "1i"),
        (-(2**63), "-9223372036854775808i"),
        (1.5, "1.5"),
        (1e300, "1e+300"),
        (-0.0, "-0.0"),
        (True, "true"),
        (False, "false"),
        ("", '""'),
        ('5" pipe \\ "x"', '"5\\" pipe \\\\ \\"x\\""'),
        ("two\nlines, and = more", '"two\nlines, and = more"'),
        (np.float64(2.5), "2.5"),
        (np.float32(0.5), "0.5"),
        (np.longdouble(2.0), "2.0"),
        (np.int32(7), "7i"),
        (np.uint8(255), "255i"),
        (np.bool_(True), "true"),
        (np.str_("text"), '"text"'),
        (np.array(3.5), "3.5"),
        (Decimal("1.5"), "1.5"),
        (enum.IntEnum("Valve", ["OPEN"]).OPEN, "1i"),
    ],
)
def test_values_are_written_by_their_kind(value, written):
    assert encode("m", {"v": value}, time=1) == f"m v={written} 1"


@pytest.mark.parametrize(
    "value", [None, math.nan, math.inf, -math.inf, np.nan, np.float32("inf"), pd.NA, pd.NaT]
)
def test_a_missing_or_infinite_value_is_left_out_and_a_point_without_any_value_too(value):
    assert encode("m", {"a": 1, "v": value}, time=1) == "m a=1i 1"
    assert encode("m", {"v": value}, time=1) == ""


@pytest.mark.parametrize("value", [b"bytes", [1, 2], {"a": 1}, np.array([1, 2]), 1j, datetime.now()])
def test_a_value_that_is_no_number_text_or_boolean_is_refused_by_the_name_of_its_field(value):
    with pytest.raises(TypeError, match="field head: should be a number, a text or a boolean, got"):
        encode("m", {"head": value}, time=1)


def test_a_whole_number_that_is_too_large_is_refused():
    with pytest.raises(ValueError, match=r"field n: .* does not fit into 64 bits"):
        encode("m", {"n": 2**63}, time=1)


def test_what_is_special_in_names_is_escaped():
    written = encode("a measure, = x", {"f g,h=i": 1}, {"t u": "v,w=x y"}, 1)

    assert written == r"a\ measure\,\ =\ x,t\ u=v\,w\=x\ y f\ g\,h\=i=1i 1"


def test_tags_are_sorted_and_missing_ones_left_out():
    tags = {"z": "last", "none": None, "empty": "", "nan": pd.NA, "a": 5, "b": np.int64(6), "c": True}

    assert encode("m", {"v": 1}, tags, 1) == "m,a=5,b=6,c=True,z=last v=1i 1"


@pytest.mark.parametrize(
    ("measurement", "fields", "tags", "message"),
    [
        ("", {"v": 1}, {}, "measurement: should not be empty"),
        ("#m", {"v": 1}, {}, "would make the line a comment"),
        ("a\nb", {"v": 1}, {}, r"measurement: 'a\\nb' contains the control character '\\n'"),
        ("m\\", {"v": 1}, {}, "ends with a backslash"),
        ("m", {"": 1}, {}, "name of a field: should not be empty"),
        ("m", {"time": 1}, {}, "field 'time': the database keeps this name"),
        ("m", {"v": 1}, {"time": "x"}, "tag 'time': the database keeps this name"),
        ("m", {"v": 1}, {"t": "C:\\temp\\"}, "tag t: .* ends with a backslash"),
        ("m", {"v": 1}, {"t": "a\tb"}, "tag t: .* control character"),
        ("m", {"v": "\udc80"}, {}, "surrogates not allowed"),
    ],
)
def test_what_line_protocol_cannot_carry_is_refused_and_named(measurement, fields, tags, message):
    with pytest.raises(ValueError, match=message):
        encode(measurement, fields, tags, 1)


@pytest.mark.parametrize(("measurement", "fields"), [(5, {"v": 1}), ("m", {5: 1})])
def test_names_are_texts(measurement, fields):
    with pytest.raises(TypeError, match="should be a text, got int"):
        encode(measurement, fields, time=1)


# -- times ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (0, 0),
        (-1, -1),
        (np.int64(5), 5),
        (START, START_NS),
        (START.replace(tzinfo=UTC), START_NS),
        (datetime(2024, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), START_NS),
        (START.replace(microsecond=123_456), START_NS + 123_456_000),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999), -1_000),
        (np.datetime64("2024-01-01"), START_NS),
        (np.datetime64(START_NS + 7, "ns"), START_NS + 7),
        (pd.Timestamp(START_NS + 7), START_NS + 7),
        (pd.Timestamp("2024-01-01").as_unit("s"), START_NS),
        (pd.Timestamp("2024-01-01 01:00", tz="Europe/Berlin"), START_NS),
        (pd.Timestamp(-1), -1),
    ],
)
def test_times_of_every_kind_become_nanoseconds(time, expected):
    assert encode("m", {"v": 1}, time=time) == f"m v=1i {expected}"


@pytest.mark.parametrize(
    ("time", "error", "message"),
    [
        (pd.NaT, ValueError, "is missing"),
        (np.datetime64("NaT"), ValueError, "is missing"),
        (datetime(3000, 1, 1), ValueError, "outside of the years 1678 to 2261"),
        (np.datetime64("3000-01-01"), ValueError, "outside of the years 1678 to 2261"),
        (pd.Timestamp("3000-01-01").as_unit("s"), ValueError, "outside of the years 1678 to 2261"),
        (datetime(1677, 12, 31), ValueError, "outside of the years 1678 to 2261"),
        (datetime(2262, 1, 1), ValueError, "outside of the years 1678 to 2261"),
        (2**63, ValueError, "outside of the years 1678 to 2261"),
        (1.5, TypeError, "should be a datetime or whole nanoseconds since 1970, got float"),
        (True, TypeError, "got bool"),
        ("2024-01-01", TypeError, "got str"),
    ],
)
def test_what_is_no_time_is_refused(time, error, message):
    with pytest.raises(error, match=message):
        encode("m", {"v": 1}, time=time)


def test_two_points_of_now_never_share_a_time():
    times = [int(encode("m", {"v": 1}).rsplit(" ", 1)[1]) for _ in range(1000)]

    assert len(set(times)) == 1000
    assert times == sorted(times)


# -- DataFrames -------------------------------------------------------------------------------------------

FRAME = pd.DataFrame({"head": [1.5, np.nan, 2.0], "open": [True, False, True]})
DAYS = pd.date_range("2024-01-01", periods=3, freq="h")
HOURS_NS = [START_NS + hour * 3_600_000_000_000 for hour in range(3)]


@pytest.mark.parametrize(
    "index",
    [
        DAYS,
        DAYS.as_unit("s"),
        DAYS.as_unit("ns"),
        DAYS.tz_localize("UTC").tz_convert("Asia/Tokyo"),
        DAYS.to_period("h"),
        pd.Index(DAYS.astype("timestamp[ms][pyarrow]")),
    ],
    ids=["us", "s", "ns", "zone", "period", "pyarrow"],
)
def test_the_index_of_a_frame_is_its_time_whatever_the_unit(index):
    written = list(encode_frame("m", FRAME.set_axis(index), {"run": "a"}))

    assert written == [
        f"m,run=a head=1.5,open=true {HOURS_NS[0]}",
        f"m,run=a open=false {HOURS_NS[1]}",
        f"m,run=a head=2.0,open=true {HOURS_NS[2]}",
    ]


@pytest.mark.parametrize(
    "index",
    [[0, 3600, 7200], [0.0, 3600.0, 7200.0], pd.to_timedelta([0, 1, 2], unit="h")],
    ids=["seconds", "float seconds", "timedelta"],
)
def test_an_index_that_counts_needs_the_time_at_which_it_starts(index):
    frame = FRAME.set_axis(index)

    assert [int(text.rsplit(" ", 1)[1]) for text in encode_frame("m", frame, time=START)] == HOURS_NS
    with pytest.raises(TypeError, match=r"the index should hold the times, but is .* write\(..., time=start"):
        list(encode_frame("m", frame))


def test_fractions_of_seconds_in_an_index_are_kept():
    frame = pd.DataFrame({"v": [1]}, index=[0.25])

    assert list(encode_frame("m", frame, time=0)) == ["m v=1i 250000000"]


@pytest.mark.parametrize(
    ("frame", "time", "error", "message"),
    [
        (FRAME.set_axis(["a", "b", "c"]), START, TypeError, "the index should hold the times"),
        (FRAME.set_axis(DAYS), START, ValueError, "holds the times already"),
        (FRAME.set_axis([*DAYS[:2], pd.NaT]), None, ValueError, "time of row 2 is missing"),
        (
            FRAME.set_axis(pd.date_range("1677-12-31", periods=3, freq="D")),
            None,
            ValueError,
            "time of row 0 is outside of the years 1678 to 2261",
        ),
        (
            FRAME.set_axis(pd.date_range("1500-01-01", periods=3, freq="D", unit="s")),
            None,
            ValueError,
            "its index has times outside of the years 1678 to 2261",
        ),
        (FRAME.set_axis([0.0, np.nan, 1.0]), START, ValueError, "time of row 1 is missing"),
        (FRAME.set_axis(["x", "x"], axis=1).set_axis(DAYS), None, ValueError, "more than one column"),
        (FRAME.set_axis(["a", "time"], axis=1).set_axis(DAYS), None, ValueError, "field 'time'"),
        (pd.DataFrame({"v": [[1]]}, index=DAYS[:1]), None, TypeError, "field v: should be"),
        (pd.DataFrame({"v": [1]}, index=pd.DatetimeIndex(["3000-01-01"])), None, ValueError, "3000"),
    ],
)
def test_a_frame_that_cannot_be_written_says_why(frame, time, error, message):
    with pytest.raises(error, match=message):
        list(encode_frame("m", frame, time=time))


def test_frames_of_every_kind_of_column():
    frame = pd.DataFrame(
        {
            "nullable": pd.array([1, None], dtype="Int64"),
            "text": pd.array(["a", None], dtype="string"),
            "category": pd.Categorical(["x", "y"]),
            7: [1, 2],
        },
        index=pd.to_datetime([0, 1]),
    )

    assert list(encode_frame("m", frame)) == [
        'm nullable=1i,text="a",category="x",7=1i 0',
        'm category="y",7=2i 1',
    ]


def test_a_frame_of_many_rows_is_encoded_some_at_a_time():
    count = 2 * line.FRAME_ROWS + 1
    frame = pd.DataFrame({"v": range(count)}, index=pd.date_range("2024", periods=count, freq="s"))

    written = list(encode_frame("m", frame))

    assert len(written) == count
    assert written[-1] == f"m v={count - 1}i {START_NS + (count - 1) * 10**9}"


# -- write ------------------------------------------------------------------------------------------------


def test_in_a_job_lines_go_to_the_worker_in_bounded_chunks_and_the_rest_at_its_end(module):
    chunks: list[str] = []
    module.install(chunks.append)

    for i in range(10_000):
        module.write("m", {"v": i}, time=i)
    before_end = len(chunks)
    module.uninstall()

    assert "".join(chunks) == "".join(f"m v={i}i {i}\n" for i in range(10_000))
    assert before_end >= 2
    assert max(len(chunk) for chunk in chunks) <= module.CHUNK_CHARS + 100
    assert all(chunk.endswith("\n") for chunk in chunks)


def test_a_frame_and_a_dict_are_written_by_the_same_function(module):
    chunks: list[str] = []
    module.install(chunks.append)

    module.write("m", FRAME.set_axis(DAYS), tags={"run": "a"})
    module.write("n", {"v": 1}, time=5)
    module.write("left out", {"v": None})
    module.uninstall()

    assert [text.split(" ")[0] for text in "".join(chunks).splitlines()] == ["m,run=a"] * 3 + ["n"]


@pytest.mark.parametrize("fields", [pd.Series([1]), [1, 2], 5, "text"])
def test_what_is_neither_dict_nor_frame_is_refused(module, fields):
    with pytest.raises(TypeError, match="fields should be a dict or a DataFrame, got"):
        module.write("m", fields)


def test_outside_of_a_job_mistakes_are_found_and_one_line_is_logged(module, caplog):
    caplog.set_level(logging.INFO)

    for _ in range(3):
        module.write("m", {"v": 1})
    with pytest.raises(TypeError):
        module.write("m", {"v": object()})

    assert [record.message for record in caplog.records] == [
        "results.write(): not running in a job, so points are checked but not written"
    ]


def test_one_job_s_points_never_reach_the_next_one(module):
    first: list[str] = []
    second: list[str] = []
    module.install(first.append)
    module.write("m", {"v": 1}, time=1)
    module.uninstall()
    module.install(second.append)
    module.write("m", {"v": 2}, time=2)
    module.uninstall()

    assert (first, second) == (["m v=1i 1\n"], ["m v=2i 2\n"])


def test_threads_of_a_job_may_write_at_the_same_time(module):
    chunks: list[str] = []
    module.install(chunks.append)

    def write_some(first: int) -> None:
        for i in range(first, first + 5000):
            module.write("m", {"v": i}, time=i)

    threads = [threading.Thread(target=write_some, args=(n * 5000,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    module.uninstall()

    assert sorted("".join(chunks).splitlines()) == sorted(f"m v={i}i {i}" for i in range(20_000))


def test_what_a_child_process_of_a_job_writes_is_handed_on_at_the_jobs_end(module, tmp_path, monkeypatch):
    monkeypatch.setenv(module.JOBS_FILE, str(tmp_path / "written"))
    chunks: list[str] = []
    module.install(chunks.append)

    child = os.fork()
    if child == 0:
        module.write("m n", {"v": 1}, time=5)
        os._exit(0)
    os.waitpid(child, 0)
    module.write("m n", {"v": 2}, time=6)
    with open(tmp_path / "written") as file:
        series = module.uninstall(file)

    assert sorted("".join(chunks).splitlines()) == ["m\\ n v=1i 5", "m\\ n v=2i 6"]
    assert series == {"m\\ n": [5, 6]}
