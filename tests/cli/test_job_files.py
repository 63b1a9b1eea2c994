"""Job descriptions from files, as they are read; ``test_cli_submit`` sends them."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from cloudburst.cli import job_files
from cloudburst.errors import ConfigError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def test_json_lines_are_read_one_by_one_and_blank_ones_left_out(monkeypatch):
    lines = '{"seed": 1, "name": "ä"}\n\n{"seed": 2.5, "at": [1]}'
    Path("jobs.jsonl").write_text(lines, encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))

    assert list(job_files.read("jobs.jsonl")) == [{"seed": 1, "name": "ä"}, {"seed": 2.5, "at": [1]}]
    assert list(job_files.read("-")) == [{"seed": 1, "name": "ä"}, {"seed": 2.5, "at": [1]}]


def test_numbers_in_csv_become_numbers_and_nothing_else_does():
    Path("jobs.csv").write_text(
        '\ufeffseed,spread,gauge,name\n1,0.5,007,ä\n2,1e-3,,"a, b"\n\n-3, .5,1_0,nan\n0,0.0,1.2.3,0x1f\n',
        encoding="utf-8",
    )

    assert list(job_files.read("jobs.csv")) == [
        {"seed": 1, "spread": 0.5, "gauge": "007", "name": "ä"},
        {"seed": 2, "spread": 0.001, "name": "a, b"},
        {"seed": -3, "spread": 0.5, "gauge": "1_0", "name": "nan"},
        {"seed": 0, "spread": 0.0, "gauge": "1.2.3", "name": "0x1f"},
    ]
    assert type(next(job_files.read("jobs.csv"))["seed"]) is int


@pytest.mark.parametrize("name", ["as_list", "as_function", "as_generator"])
def test_a_python_file_has_an_iterable_or_a_function_of_one_and_may_import_its_neighbours(name):
    Path("more.py").write_text("SEEDS = range(3)\n")
    Path("scenarios.py").write_text(
        "from more import SEEDS\n"
        "as_list = [{'seed': seed} for seed in SEEDS]\n"
        "def as_function():\n    return iter(as_list)\n"
        "def as_generator():\n    yield from as_list\n"
    )

    assert list(job_files.read(f"scenarios.py:{name}")) == [{"seed": 0}, {"seed": 1}, {"seed": 2}]


@pytest.mark.parametrize(
    ("source", "text", "message"),
    [
        ("j.jsonl", '{"a": 1}\n{"a": \n', "j.jsonl:2: not JSON: one object per line is needed"),
        ("j.jsonl", "[\n{}\n]\n", "j.jsonl:1: not JSON: one object per line is needed"),
        ("j.jsonl", '{"a": 1}\n[1, 2]\n', "j.jsonl:2: a job description is a JSON object, got [1, 2]"),
        ("j.jsonl", b'{"a": "\xe4"}', "j.jsonl: not UTF-8 text"),
        ("j.jsonl", b"{}\n\x00\x01", "j.jsonl: not text (line 2: a NUL character)"),
        (
            "j.jsonl",
            '{"a": 1}\n{"a": NaN}\n',
            "j.jsonl:2: not JSON: one object per line is needed (NaN is no",
        ),
        ("j.jsonl", '{"a": -Infinity}\n', "j.jsonl:1: not JSON: one object per line is needed (-Infinity"),
        ("j.jsonl", '{"a": 1e400}\n', "j.jsonl:1: not JSON: one object per line is needed (1e400 is no"),
        ("j.jsonl", '{"a": 1, "b": {"c": 1, "c": 2}}\n', "(the key 'c' is there twice)"),
        ("j.jsonl", '{"a": ' + "[" * 100_000 + "\n", "j.jsonl:1: lists and objects are nested too deep"),
        ("j.jsonl", '{"a": ' + "1" * 5000 + "}\n", "j.jsonl:1: not JSON"),
        ("j.csv", "a,b\n1,2\n1\n", "j.csv:3: 1 cells, but the header has 2"),
        ("j.csv", "a,a\n1,2\n", "j.csv:1: two columns have the same name: a, a"),
        ("j.csv", 'a\n"1\n', "j.csv:2: not CSV"),
        ("j.py:jobs", "jobs = 3\n", "j.py:jobs: not an iterable of job descriptions"),
        ("j.py:jobs", "jobs = []\nfoo(\n", "j.py:jobs: SyntaxError: '(' was never closed (j.py, line 2)"),
        ("j.py:jobs", "import nympy\n", "line 1: ModuleNotFoundError: No module named 'nympy'"),
        ("j.py:jobs", "def jobs():\n  yield {}\n  1 / 0\n", "line 3: ZeroDivisionError: division by zero"),
        ("j.py:jobs", "import sys\nsys.exit()\n", "j.py:jobs: line 2: SystemExit"),
        ("j.py", "jobs = []\n", "say which iterable in it, such as j.py:jobs"),
        ("k.py:jobs", "", "k.py:jobs: no such Python file"),
        ("k.jsonl", "", "k.jsonl: cannot be read (No such file or directory)"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(source, text, message):
    if not source.startswith("k"):
        data = text if isinstance(text, bytes) else text.encode()
        Path(source.partition(":")[0]).write_bytes(data)

    with pytest.raises(ConfigError) as caught:
        list(job_files.read(source))

    assert message in str(caught.value)


def test_stdin_is_read_as_utf8_whatever_the_terminal_speaks(monkeypatch):
    data = io.BytesIO(b'{"a": "\xc3\xa4"}\n{"a": "\xe4"}\n')
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data, encoding="latin-1"))

    found = job_files.read("-")

    assert next(found) == {"a": "ä"}
    with pytest.raises(ConfigError, match=r"-: not UTF-8 text \(line 2: the byte 0xe4\)"):
        next(found)
