"""Job descriptions from CSV: the type of each column is decided once, for all of its cells.

- *whole numbers*: each cell is written as Python writes it back (``7``, ``-3``; not ``007``, ``+1`` or
  ``1_000``), and fits into 64 bits;
- *numbers*: each cell is a finite decimal number (``7``, ``0.5``, ``1e-3``, ``1.2E5``). Its exponent has a
  sign, or it has a point: ``12E5`` is rather a name;
- *true or false*: each cell is ``true`` or ``false``, in capitals or not;
- *text*: anything else, as it stands in the file.

An empty cell is a parameter that the job does not have; a row of empty cells is no job.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TextIO

from cloudburst import names
from cloudburst.cli.lines import checked
from cloudburst.errors import ConfigError

WHOLE, DECIMAL, BOOLEAN, TEXT, NO_NUMBER = "whole", "decimal", "boolean", "text", "no number"

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")
_DECIMAL = re.compile(r"-?((0|[1-9][0-9]*)?\.[0-9]+|(0|[1-9][0-9]*)\.?)([eE][+-]?[0-9]+)?")
_NAME_LIKE = re.compile(r"[0-9]+[eE][0-9]+")
"""Such as 12E5."""
_ZERO = re.compile(r"[-0.]*([eE].*)?")
_NO_NUMBER = re.compile(r"[+-]?(nan|inf|infinity)|n/?a|null|none|#n/a|-", re.IGNORECASE)
"""What programs write where they have no number."""

EXACT_IN_FLOAT = 2**53


@dataclass
class Column:
    """One parameter: which kinds of cells it has, each with its first example and the line of that."""

    name: str
    kinds: dict[str, tuple[str, int]] = field(default_factory=dict)
    missing: int = 0
    """How many of its cells are empty."""
    large: bool = False
    """A whole number is beyond what a float holds exactly."""

    def learn(self, cell: str, line: int) -> None:
        if not cell or cell.isspace():
            self.missing += 1
            return
        kind = _kind(cell.strip())
        if kind not in self.kinds:
            self.kinds[kind] = (cell.strip(), line)
        if kind == WHOLE and abs(int(cell)) > EXACT_IN_FLOAT:
            self.large = True

    @property
    def kind(self) -> str:
        """The type of all its cells."""
        seen = self.kinds.keys()
        if seen == {DECIMAL, WHOLE} and not self.large:
            return DECIMAL
        return next(iter(seen)) if len(seen) == 1 and seen != {NO_NUMBER} else TEXT

    def value(self, cell: str) -> Any:
        """A cell as a value of its type."""
        kind = self.kind
        if kind == TEXT:
            return cell
        text = cell.strip()
        return int(text) if kind == WHOLE else float(text) if kind == DECIMAL else text.lower() == "true"

    def rule(self) -> str:
        """What it was taken for, and which cell has decided that if there was a choice."""
        said = {WHOLE: "whole numbers", DECIMAL: "numbers", BOOLEAN: "true or false", TEXT: "text"}[self.kind]
        odd = next((self.kinds[kind] for kind in (TEXT, NO_NUMBER) if kind in self.kinds), None)
        if self.kind == TEXT and odd and self.kinds.keys() & {WHOLE, DECIMAL, BOOLEAN}:
            said += f", because of {odd[0]!r:.40} in line {odd[1]}"
        return said + (f"; {self.missing:,} empty" if self.missing else "")


class CsvJobs:
    """The job descriptions of a CSV file that can be read twice: once for the types, once for the jobs.

    Raises ConfigError, naming line and column, for what cannot be meant.
    """

    def __init__(self, file: TextIO, source: str) -> None:
        self._file = file
        self._source = source
        self.columns: list[Column] = []
        self.rows = self.empty_rows = 0
        for line, row in self._rows():
            if not self.columns:
                self.columns = self._header(row, line)
            elif not any(cell.strip() for cell in row):
                self.empty_rows += 1
            else:
                self.rows += 1
                for column, cell in zip(self.columns, self._fitting(row, line), strict=True):
                    column.learn(cell, line)
        for number, column in enumerate(self.columns, 1):
            self._check(number, column)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        rows = self._rows()
        next(rows, None)
        for line, row in rows:
            if any(cell.strip() for cell in row):
                cells = zip(self.columns, self._fitting(row, line), strict=True)
                yield {column.name: column.value(cell) for column, cell in cells if cell.strip()}

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Every row that is not blank, with the number of its first line."""
        self._file.seek(0)
        csv.field_size_limit(names.DESCRIPTION_LIMIT_BYTES)
        rows = csv.reader(checked(self._file, self._source), strict=True)
        while True:
            line = rows.line_num + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                raise self._wrong(line, f"not CSV ({error}): a quote that is not closed?") from error
            if row:
                yield line, row

    def _header(self, row: list[str], line: int) -> list[Column]:
        columns = [Column(" ".join(cell.split())) for cell in row]
        texts = [column.name for column in columns]
        first = texts[0]
        for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if separator in row[0] or (separator != "|" and any(separator in cell for cell in row)):
                raise self._wrong(
                    line, f"columns seem to be separated by {name}: save it with commas ({first:.40})"
                )
        if first.lower().startswith("sep="):
            raise self._wrong(line, f"{first} is no header: leave it out, and separate columns by commas")
        if all(_kind(text) in {WHOLE, DECIMAL} for text in texts):
            raise self._wrong(line, f"these are numbers: the first line names the parameters ({first:.40})")
        named = [text for text in texts if text]
        if len(set(named)) < len(named):
            raise self._wrong(line, f"two columns have the same name: {', '.join(texts):.200}")
        return columns

    def _fitting(self, row: list[str], line: int) -> list[str]:
        if len(row) != len(self.columns):
            hint = (
                "" if len(row) < len(self.columns) else ": is one of them a comma within a number or a text?"
            )
            raise self._wrong(line, f"{len(row)} cells, but the header has {len(self.columns)}{hint}")
        return row

    def _check(self, number: int, column: Column) -> None:
        if not column.name and column.kinds:
            cell, line = next(iter(column.kinds.values()))
            raise self._wrong(line, f"{cell!r:.40} is in column {number}, which has no name in the header")
        numbers = column.kinds.keys() & {WHOLE, DECIMAL}
        if numbers and column.kinds.keys() - numbers == {NO_NUMBER}:
            cell, line = column.kinds[NO_NUMBER]
            raise self._wrong(
                line, f"column {column.name}: {cell!r} is no number: leave the cell empty where there is none"
            )

    def _wrong(self, line: int, what: str) -> ConfigError:
        return ConfigError(f"{self._source}:{line}: {what}")


def _kind(text: str) -> str:
    if _WHOLE.fullmatch(text) and -(2**63) <= int(text) < 2**63:
        return WHOLE
    if _is_decimal(text):
        return DECIMAL
    if text.lower() in {"true", "false"}:
        return BOOLEAN
    return NO_NUMBER if _NO_NUMBER.fullmatch(text) else TEXT


def _is_decimal(text: str) -> bool:
    """Whether a float is meant, and is as large as that; not a whole number of more than 64 bits."""
    if not _DECIMAL.fullmatch(text) or _NAME_LIKE.fullmatch(text):
        return False
    if text.lstrip("-").isdecimal() and text != "-0":
        return False
    value = float(text)
    return abs(value) != float("inf") and (value != 0 or _ZERO.fullmatch(text) is not None)
