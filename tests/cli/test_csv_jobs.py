"""Job descriptions from CSV: types by column, and nothing taken for what it is not."""

from __future__ import annotations

import csv
import io
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudburst.cli import job_files
from cloudburst.cli.csv_jobs import CsvJobs
from cloudburst.errors import ConfigError


def jobs(text: str) -> list[dict[str, Any]]:
    return list(CsvJobs(io.StringIO(text, newline=""), "j.csv"))


def column(*cells: str) -> list[Any]:
    """What the cells of a column become, None for those that are missing."""
    target = io.StringIO(newline="")
    csv.writer(target).writerows([["n", "a"], *([n, cell] for n, cell in enumerate(cells))])
    return [job.get("a") for job in jobs(target.getvalue())]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", "-3", "0"], [1, -3, 0]),
        (["1", "0.5", ".5", "2.", "1e-3", "1.5E5", "-0"], [1.0, 0.5, 0.5, 2.0, 0.001, 150000.0, -0.0]),
        (["1.000000000000000000e+00", "0e+00"], [1.0, 0.0]),
        (["true", "FALSE", "", "True"], [True, False, None, True]),
        (["9223372036854775807"], [2**63 - 1]),
        (["", "7"], [None, 7]),
        ([" 7 ", "8"], [7, 8]),
    ],
)
def test_cells_that_come_back_the_same_become_values(cells: list[str], values: list[Any]) -> None:
    assert column(*cells) == values
    assert [type(value) for value in column(*cells)] == [type(value) for value in values]


@pytest.mark.parametrize(
    "cell",
    [
        *("12E5", "47583311587E590003", "1e400", "1e-400", "007", "-007", "+1", "1_000", "1,5", "٣", "0x1f"),
        *(
            "9223372036854775808",
            "9" * 5000,
            "2024-01-01",
            "1.2.3",
            "nan",
            "None",
            "yes",
            "=1+1",
            "a\nb",
            "-",
        ),
    ],
)
def test_everything_else_stays_text_and_with_it_its_whole_column(cell: str) -> None:
    assert column(cell, "") == [cell, None]
    if cell not in {"nan", "None", "-"}:
        assert column("1", cell, "2.50", "True") == ["1", cell, "2.50", "True"]


def test_a_whole_number_that_a_float_cannot_hold_makes_no_number_of_its_column() -> None:
    assert column("9007199254740993", "0.5") == ["9007199254740993", "0.5"]
    assert column("9007199254740993", "1") == [9007199254740993, 1]


@pytest.mark.parametrize("cell", ["nan", "NaN", "inf", "-inf", "NA", "N/A", "null", "None", "#N/A", "-"])
def test_a_word_for_no_number_among_numbers_is_refused_with_its_place(cell: str) -> None:
    with pytest.raises(ConfigError) as caught:
        column("0.5", cell)

    assert str(caught.value).startswith(f"j.csv:3: column a: {cell!r} is no number: leave the cell empty")


def test_what_spreadsheets_leave_behind_is_no_job() -> None:
    assert jobs(" years ,a,\n1,x,\n,,\n\n2,,\n,,,,,\n , ,\n") == [{"years": 1, "a": "x"}, {"years": 2}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a;b\n1;2\n", "j.csv:1: columns seem to be separated by semicolons: save it with commas (a;b)"),
        ("a;b\n0,5;2\n", "j.csv:1: columns seem to be separated by semicolons"),
        ("a\tb\n1\t2\n", "j.csv:1: columns seem to be separated by tabs"),
        ("a|b\n1|2\n", "j.csv:1: columns seem to be separated by bars"),
        ("sep=;\na;b\n1;2\n", "j.csv:1: columns seem to be separated by semicolons"),
        ("sep=,\na,b\n1,2\n", "j.csv:1: sep= is no header: leave it out"),
        ("1,0.5\n2,0.5\n", "j.csv:1: these are numbers: the first line names the parameters"),
        ("a, a \n1,2\n", "j.csv:1: two columns have the same name: a, a"),
        ("a,,b\n1,2,3\n", "j.csv:2: '2' is in column 2, which has no name in the header"),
        ("a,b\n1,2\n1,2,3\n", "j.csv:3: 3 cells, but the header has 2: is one of them a comma within"),
        ("a,b\n1\n", "j.csv:2: 1 cells, but the header has 2"),
        ('a,b\n1,2\n"x,3\n4,5\n', "j.csv:3: not CSV (unexpected end of data): a quote that is not closed?"),
        ('a\n"x"y\n', "j.csv:2: not CSV"),
        ("a\nx\0y\n", "j.csv: not text (line 2: a NUL character)"),
        (f"a\n{'x' * 600_000}\n", "j.csv:2: not CSV (field larger than field limit"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        jobs(text)

    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("a,b\n1,ü\n".encode("latin-1"), "j.csv: not UTF-8 text (line 2: the byte 0xfc): save it as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "j.csv: not UTF-8 text (line 1: UTF-16): save it as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), "j.csv: not text (line 1: a NUL character)"),
    ],
)
def test_other_encodings(data: bytes, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("j.csv").write_bytes(data)

    with pytest.raises(ConfigError) as caught:
        list(job_files.read("j.csv"))

    assert says in str(caught.value)


def test_a_mark_and_line_ends_of_other_systems(tmp_path: Path) -> None:
    for end in ("\r\n", "\r", "\n"):
        (tmp_path / "j.csv").write_bytes(f"\ufeffa,b{end}1,ü{end}2,{end}".encode())
        assert list(job_files.read(str(tmp_path / "j.csv"))) == [{"a": 1, "b": "ü"}, {"a": 2}]


def test_a_pipe_can_be_read_once_only_and_is(tmp_path: Path) -> None:
    fifo = tmp_path / "j.csv"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_text, args=("a\n1\nx\n",))
    writer.start()

    assert list(job_files.read(str(fifo))) == [{"a": "1"}, {"a": "x"}]
    writer.join()


def test_it_says_what_columns_were_taken_for_and_why() -> None:
    found = CsvJobs(io.StringIO("a,b,c,d,e\n1,1,true,x,\n2,2.5,,7,\n,007,,8,\n"), "j.csv")

    assert [(one.name, one.rule()) for one in found.columns if one.kinds] == [
        ("a", "whole numbers; 1 empty"),
        ("b", "text, because of '007' in line 4"),
        ("c", "true or false; 2 empty"),
        ("d", "text, because of 'x' in line 2"),
    ]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1))
def test_whatever_the_cells_text_comes_back_as_it_was_and_numbers_as_large(cells: list[str]) -> None:
    try:
        values = column(*cells)
    except ConfigError:
        return
    for cell, value in zip(cells, values, strict=True):
        assert (
            value == cell
            or (value is None and not cell.strip())
            or (isinstance(value, bool) and str(value).lower() == cell.strip().lower())
            or (isinstance(value, int) and str(value) == cell.strip())
            or (isinstance(value, float) and value == float(cell))
        )
