"""Results: parameters beside returned values, exactly, in every format."""

from __future__ import annotations

import io
import json
import math
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from cloudburst.model import JobRecord
from cloudburst.results import Results, snapshot

STARTED = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)


def record(index: int, description: dict[str, Any], value: Any = None, **fields: Any) -> JobRecord:
    known = {
        "index": index,
        "job_id": f"floods-abc123-{index}",
        "state": "finished",
        "attempt": 1,
        "node": "node-1",
        "started_at": STARTED.timestamp() + index,
        "duration_s": 0.5,
        "value": value,
        "error": "",
        "fingerprint": "",
        "description": description,
    }
    return JobRecord(**(known | fields))


def failed(index: int, description: dict[str, Any], **fields: Any) -> JobRecord:
    return record(index, description, None, state="failed", error="ValueError: x", fingerprint="f1", **fields)


def results(*records: JobRecord) -> Results:
    return Results(lambda: iter(records))


def parquet(tmp_path: Path, *records: JobRecord) -> Any:
    path = tmp_path / "results.parquet"
    assert results(*records).to_parquet(path) == len(records)
    return pq.read_table(path)


def csv_lines(*records: JobRecord) -> list[str]:
    file = io.StringIO(newline="")
    assert results(*records).to_csv(file) == len(records)
    return file.getvalue().splitlines()


def test_parameters_stand_beside_returned_values_and_rows_are_in_the_order_of_the_jobs():
    frame = results(
        record(1, {"seed": 1, "spread": 0.2}, {"peak": 3.5, "hour": 7}),
        record(0, {"seed": 0, "spread": 0.1}, {"peak": 2.5, "hour": 6}, attempt=2),
    ).to_frame()

    assert list(frame.columns) == (
        [
            "state",
            "seed",
            "spread",
            "peak",
            "hour",
            "attempt",
            "node",
            "started_at",
            "duration_s",
            "error",
            "fingerprint",
        ]
    )
    assert frame.index.name == "index"
    assert frame.index.tolist() == [0, 1]
    assert frame["peak"].tolist() == [2.5, 3.5]
    assert frame["attempt"].tolist() == [2, 1]
    assert frame["hour"].dtype == "int64"
    assert frame["started_at"].iloc[0].to_pydatetime() == STARTED


def test_columns_do_not_depend_on_which_job_ended_first():
    early = record(0, {"a": 1}, {"x": 1, "y": 2})
    late = record(1, {"b": 1, "a": 2}, {"z": 1, "y": 2})

    assert csv_lines(early, late) == csv_lines(late, early)
    assert csv_lines(late, early)[0].startswith("index,state,a,b,x,y,z,attempt")


def test_a_value_that_is_no_dict_is_one_column_and_none_is_no_column():
    frame = results(record(0, {"seed": 0}, 3.5), record(1, {"seed": 1}, None)).to_frame()

    assert frame["value"].tolist()[0] == 3.5
    assert math.isnan(frame["value"].tolist()[1])
    assert "value" not in results(record(0, {"seed": 0}, None)).to_frame().columns


def test_a_returned_value_with_the_name_of_a_parameter_gets_a_suffix():
    frame = results(
        record(0, {"seed": 1, "node": "101", "value": 4}, {"seed": 2, "error": 0.1, "value": 5})
    ).to_frame()

    row = frame.iloc[0]
    assert (row["seed"], row["seed_returned"]) == (1, 2)
    assert (row["value"], row["value_returned"]) == (4, 5)
    assert (row["node"], row["node_parameter"]) == ("node-1", "101")
    assert (row["error"], row["error_returned"]) == ("", 0.1)


def test_no_two_columns_ever_have_the_same_name():
    frame = results(record(0, {"x": 1, "x_returned": 2}, {"x": 3, "x_returned": 4})).to_frame()

    assert frame.columns.is_unique
    values = ["x", "x_returned", "x_returned_returned", "x_returned_returned_returned"]
    assert frame[values].iloc[0].tolist() == [1, 2, 3, 4]


def test_failed_and_cancelled_jobs_have_their_row_without_values():
    frame = results(
        record(0, {"seed": 0}, {"peak": 1.5, "name": "a"}),
        failed(1, {"seed": 1}),
        record(2, {"seed": 2}, state="cancelled", attempt=0, node="", started_at=0.0, duration_s=0.0),
    ).to_frame()

    assert frame["state"].tolist() == ["finished", "failed", "cancelled"]
    assert frame["seed"].tolist() == [0, 1, 2]
    assert frame["peak"].isna().tolist() == [False, True, True]
    assert frame["name"].isna().tolist() == [False, True, True]
    assert frame["error"].tolist() == ["", "ValueError: x", ""]
    assert frame["started_at"].isna().tolist() == [False, False, True]


@pytest.mark.parametrize(
    "value",
    [
        0.1,
        1e300,
        -0.0,
        math.inf,
        2**53 + 1,
        2**63 - 1,
        -(2**63),
        True,
        'ü, 日本, "quoted"\nline',
        "",
        [],
        [1, 2.5],
    ],
    ids=repr,
)
def test_values_survive_every_format_exactly(tmp_path, value):
    one = record(0, {"p": value}, {"v": value})

    row = results(one).to_frame().iloc[0]
    assert (row["p"], row["v"]) == (value, value)
    (arrow,) = parquet(tmp_path, one).to_pylist()
    assert (arrow["p"], arrow["v"]) == (value, value)
    file = io.StringIO()
    results(one).to_json_lines(file)
    line = json.loads(file.getvalue())
    assert (line["description"], line["value"]) == ({"p": value}, {"v": value})


def test_not_a_number_is_told_from_missing_where_the_format_can(tmp_path):
    records = [record(0, {"seed": 0}, {"v": math.nan}), failed(1, {"seed": 1})]

    column = parquet(tmp_path, *records)["v"].to_pylist()
    assert math.isnan(column[0])
    assert column[1] is None
    assert [line.split(",")[3] for line in csv_lines(*records)[1:]] == ["nan", ""]
    assert results(*records).to_frame()["v"].isna().all()


def test_large_whole_numbers_beside_gaps_lose_no_digit(tmp_path):
    records = [record(0, {"seed": 2**60 + 1}, 2**63), failed(1, {}), record(2, {"seed": 0.5})]

    frame = results(*records).to_frame()
    assert frame["seed"].tolist()[0] == 2**60 + 1
    assert frame["value"].tolist()[0] == 2**63
    table = parquet(tmp_path, *records)
    assert [json.loads(text) for text in table["seed"].to_pylist() if text] == [2**60 + 1, 0.5]
    assert json.loads(table["value"].to_pylist()[0]) == 2**63


def test_lists_and_dicts_become_lists_and_structs_in_parquet(tmp_path):
    table = parquet(
        tmp_path,
        record(0, {"at": [1, 2]}, {"levels": {"1": [1, 2.5], "2": []}, "hours": []}),
        record(1, {"at": []}, {"levels": {"1": [0.5], "2": [1]}, "hours": [3]}),
    )

    assert table["at"].to_pylist() == [[1, 2], []]
    assert table["hours"].to_pylist() == [[], [3]]
    assert table["levels"].to_pylist() == [{"1": [1.0, 2.5], "2": []}, {"1": [0.5], "2": [1.0]}]


@pytest.mark.parametrize(
    "values",
    [
        [1, "a"],
        [True, 2],
        [{"a": 1}, {"b": 1}],
        [{}, None],
        [[{"a": 1}], []],
        [{"a": {"b": 1}}, None],
        [[1, "a"], 2**70],
        ["\ud800", "plain"],
    ],
    ids=repr,
)
def test_what_fits_no_type_is_json_text_in_parquet_and_says_so(tmp_path, values):
    table = parquet(tmp_path, *(record(i, {}, {"v": value}) for i, value in enumerate(values)))

    assert [text and json.loads(text) for text in table["v"].to_pylist()] == values
    assert table.schema.field("v").metadata[b"cloudburst"] == b"json"


def test_types_are_found_over_all_row_groups_and_frames_are_put_together(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "BATCH_BYTES", 1)
    records = [
        record(0, {"seed": 1}, {"v": 1, "w": 1, "d": {"a": 1}, "m": "x"}),
        record(1, {"seed": 2}, {"v": 2.5, "d": {"b": 1}, "m": 3}),
        failed(2, {"seed": 3}),
        record(3, {"seed": 4, "late": "x"}, {"v": 4}),
    ]

    path = tmp_path / "results.parquet"
    results(*records).to_parquet(path)
    assert pq.ParquetFile(path).num_row_groups == 4
    table = pq.read_table(path)
    assert table["v"].to_pylist() == [1.0, 2.5, None, 4.0]
    assert table["late"].to_pylist() == [None, None, None, "x"]
    assert table["d"].to_pylist() == ['{"a": 1}', '{"b": 1}', None, None]
    frame = results(*records).to_frame()
    assert frame["seed"].dtype == "int64"
    assert frame["v"].dtype == "float64"
    assert frame["d"].tolist()[:2] == [{"a": 1}, {"b": 1}]
    assert frame["m"].tolist()[:2] == ["x", 3]
    assert frame.columns.tolist()[:4] == ["state", "seed", "late", "v"]


def test_of_a_job_that_was_retried_meanwhile_the_later_record_counts():
    frame = results(failed(0, {"seed": 0}), record(0, {"seed": 0}, 7, attempt=1)).to_frame()

    assert frame["state"].tolist() == ["finished"]


def test_pandas_reads_the_csv_back_as_it_was(tmp_path):
    path = tmp_path / "results.csv"
    records = [record(i, {"seed": i, "name": f"ß{i}"}, {"peak": i / 3, "at": [i]}) for i in range(5)]

    assert results(*records).to_csv(path) == 5

    frame = pd.read_csv(path, index_col="index", parse_dates=["started_at"])
    expected = results(*records).to_frame()
    assert frame["peak"].tolist() == expected["peak"].tolist()
    assert frame["name"].tolist() == expected["name"].tolist()
    assert frame["at"].tolist() == ["[0]", "[1]", "[2]", "[3]", "[4]"]
    assert (frame["started_at"] == expected["started_at"]).all()


def test_broken_unicode_breaks_no_format(tmp_path):
    one = record(0, {"p": "\ud800"}, "\udfff")

    assert results(one).to_frame()["p"].tolist() == ["\ud800"]
    assert results(one).to_csv(tmp_path / "r.csv") == 1
    assert results(one).to_json_lines(tmp_path / "r.jsonl") == 1
    assert json.loads((tmp_path / "r.jsonl").read_text("utf-8"))["value"] == "\udfff"


def test_an_ensemble_without_records_gives_empty_tables(tmp_path):
    assert results().to_frame().empty
    assert parquet(tmp_path).num_rows == 0
    assert csv_lines()[0].startswith("index,state,attempt")


def test_a_file_is_replaced_only_when_the_new_one_is_complete(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("old")

    def broken() -> Any:
        yield record(0, {"seed": 0}, 1)
        raise OSError("connection lost")

    for write in (Results(broken).to_csv, Results(broken).to_parquet, Results(broken).to_json_lines):
        with pytest.raises(OSError, match="connection lost"):
            write(path)

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_many_records_are_read_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "IN_MEMORY_BYTES", 1_000_000)
    monkeypatch.setattr(snapshot, "BATCH_BYTES", 200_000)

    def records() -> Any:  # 20 MB in all
        return (record(i, {"seed": i, "text": "x" * 4000}, {"peak": i / 3}) for i in range(5_000))

    tracemalloc.start()
    try:
        for write in (Results(records).to_csv, Results(records).to_parquet):
            assert write(tmp_path / "results") == 5_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 8e6


def test_the_head_is_made_of_the_jobs_that_ended_first_without_reading_on():
    def endless() -> Any:
        yield record(3, {"seed": 3}, 1)
        yield record(1, {"seed": 1}, 2)
        raise AssertionError("read too far")

    names, rows = Results(endless).head(2)

    assert names[:4] == ["index", "state", "seed", "value"]
    assert [row[0] for row in rows] == [1, 3]


def test_records_of_several_payloads_say_which_and_those_of_one_do_not(tmp_path):
    old, new = "a" * 64, "b" * 64
    alike = [record(0, {"seed": 1}, {"x": 1}, payload=old), record(1, {"seed": 2}, {"x": 2}, payload=old)]
    mixed = [*alike, record(2, {"seed": 3}, {"x": 3}, payload=new)]
    mixed.append(failed(3, {"seed": 4}, attempt=0, payload=""))

    assert "payload" not in results(*alike).to_frame().columns
    assert csv_lines(*alike)[0].endswith(",fingerprint")

    frame = results(*mixed).to_frame()
    assert list(frame["payload"])[:3] == [old, old, new]
    assert pd.isna(frame["payload"][3])
    assert frame.columns[-1] == "payload"
    assert [line.rpartition(",")[2] for line in csv_lines(*mixed)] == ["payload", old, old, new, ""]
    assert parquet(tmp_path, *mixed)["payload"].to_pylist() == [old, old, new, None]


def test_a_parameter_named_payload_keeps_its_name_unless_there_is_a_mix():
    own = [record(0, {"payload": 7}, 1, payload="a"), record(1, {"payload": 8}, 2, payload="a")]

    assert list(results(*own).to_frame()["payload"]) == [7, 8]

    mixed = results(*own, record(2, {"payload": 9}, 3, payload="b")).to_frame()
    assert list(mixed["payload_parameter"]) == [7, 8, 9]
    assert list(mixed["payload"]) == ["a", "a", "b"]


def test_json_lines_name_the_payload_of_each_record():
    file = io.StringIO()

    results(record(0, {}, 1, payload="a"), failed(1, {}, attempt=0)).to_json_lines(file)

    assert [json.loads(line)["payload"] for line in file.getvalue().splitlines()] == ["a", None]


def test_a_time_that_no_clock_says_is_none(tmp_path):
    for started_at in (1e30, -1e30, float("inf"), float("nan")):
        records = [record(0, {}, 1, started_at=started_at), record(1, {}, 2)]

        assert results(*records).to_frame()["started_at"].isna().tolist() == [True, False]
        assert parquet(tmp_path, *records).num_rows == len(csv_lines(*records)) - 1 == 2


def deep(levels: int) -> list[Any]:
    value: list[Any] = [7]
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize("levels", [30, 100, 980, 5000])
def test_what_is_nested_deep_is_in_every_format_whoever_has_stored_it(tmp_path, levels):
    records = [record(0, {"a": deep(levels)}, deep(levels)), record(1, {"a": [1]}, {"value": [2]})]
    lines = io.StringIO()

    results(*records).to_json_lines(lines)
    frame = results(*records).to_frame()

    assert lines.getvalue().count("[") >= 2 * levels
    assert len(frame) == len(csv_lines(*records)) - 1 == parquet(tmp_path, *records).num_rows == 2
    assert results(*records).head()[1][1][0] == 1
    if levels <= 100:
        assert frame["value"][0] == deep(levels)
    else:
        text = str(frame["value"][0])
        assert text.count("[") == levels


@pytest.mark.parametrize(
    "text", ["a\rb", "a\nb", "a\r\nb", "\r", 'a"b', "a,b", " a ", "ä\u2028b", "\x1b[0m", "#"]
)
def test_csv_has_as_many_rows_as_jobs_whatever_stands_in_a_text(text):
    records = [record(0, {"a": text}, {text: text}), record(1, {"a": "x"}, "y")]
    file = io.StringIO(newline="")
    results(*records).to_csv(file)

    found = pd.read_csv(io.StringIO(file.getvalue()), keep_default_na=False)

    assert list(found["a"]) == [text, "x"]
    assert list(found[text]) == [text, ""]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-x", "@sum", "\t=1", "\r=1"])
def test_a_text_that_a_spreadsheet_would_run_is_as_it_is_unless_it_is_for_one(text):
    records = [record(0, {"a": text, "b": -1.5}, [text])]
    plain, safe = io.StringIO(newline=""), io.StringIO(newline="")

    results(*records).to_csv(plain)
    results(*records).to_csv(safe, spreadsheet=True)

    assert pd.read_csv(io.StringIO(plain.getvalue()), dtype=str)["a"][0] == text
    found = pd.read_csv(io.StringIO(safe.getvalue()))
    assert found["a"][0] == f"'{text}"
    assert found["b"][0] == -1.5


def test_names_of_columns_that_no_file_can_have_and_names_that_are_taken(tmp_path):
    records = [
        record(0, {"\ud800": 1, "\\ud800": 2, "index": 3, "value": 4}, 5),
        record(1, {"": 1, "state": "s"}, {"\udfff": "\ud801", "index": 6}),
    ]
    names = [
        "index",
        "state",
        "\\ud800",
        "\\ud800_parameter",
        "index_parameter",
        "value",
        "",
        "state_parameter",
    ]
    names += ["value_returned", "\\udfff", "index_returned"]

    frame = results(*records).to_frame()

    assert list(frame.reset_index().columns)[: len(names)] == names
    assert parquet(tmp_path, *records).column_names[: len(names)] == names
    assert csv_lines(*records)[0].split(",")[: len(names)] == names
    assert frame["index_returned"][1] == 6
    assert results(*records).to_csv(tmp_path / "r.csv") == 2


def test_numbers_in_lists_keep_their_digits_in_parquet(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "BATCH_BYTES", 1)  # each record is a batch
    records = [
        record(0, {"a": [2**53 + 1], "b": [2**53 + 1, 0.5], "c": {"d": [2**60 + 1]}, "e": [2**70]}),
        record(1, {"a": [0.5], "b": [1.5], "c": {"d": [0.5]}, "e": [1]}),
    ]

    table = parquet(tmp_path, *records)

    for name in "abce":
        found = [json.loads(one) if isinstance(one, str) else one for one in table[name].to_pylist()]
        assert found == [one.description[name] for one in records]


def test_a_link_leads_to_the_file_that_is_written_and_a_device_stays_one(tmp_path):
    (tmp_path / "link.csv").symlink_to("there.csv")
    results(record(0, {"a": 1})).to_csv(tmp_path / "link.csv")

    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "there.csv").read_text().startswith("index,")
    assert results(record(0, {"a": 1})).to_csv("/dev/null") == 1
    assert Path("/dev/null").is_char_device()
    assert results(record(0, {"a": 1})).to_csv(tmp_path / ("x" * 251 + ".csv")) == 1
