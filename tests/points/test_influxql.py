"""The local stack's part of InfluxQL: the same points and queries give what InfluxDB 1.6 gives."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from itertools import count, groupby
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cloudburst import names
from cloudburst.points.influxql import answer
from cloudburst.points.influxql.parse import parse
from cloudburst.points.influxql.syntax import QueryError, Select
from cloudburst.points.parse import parse as parse_lines
from cloudburst.points.store import Store
from tests.influx import Influx, running
from tests.observer.test_dashboards import PANELS, VARIABLES, filled
from tests.points.endpoint import TOKEN, Endpoint

NOW_S = int(time.time())
ENSEMBLE = "floods-a1b2c3"
VALUES = {
    "ensemble": ENSEMBLE,
    "field": "head",
    "jobs_per_dot": "7u",
    "jobs_from": str(10**18),
    "jobs_to": str(10**18 + 180_000),
}
TEXTS = {
    "state",
    "said",
    "state_said",
    "id",
    "function",
    "payload",
    "error",
    "jobs_per_dot",
    "jobs_from",
    "jobs_to",
}
QUERIES = sorted(
    {target["query"] for panel in PANELS for target in panel.values[0]["targets"]}
    | {variable["query"]["query"] for variable in VARIABLES.values()}
)


def observed() -> Iterator[str]:
    """Lines as a stack's observer writes them, of an hour, and what 200 jobs have returned."""
    for measurement, (tags, fields) in names.OBSERVED.items():
        for series in range(2 if tags else 1):
            known = {tag: f"{tag}-{series}" for tag in tags} | (
                {"ensemble": ENSEMBLE} if "fingerprint" in tags or not series else {}
            )
            key = ",".join([measurement, *(f"{tag}={known[tag]}" for tag in tags)])
            for step in range(1 if measurement == names.MEASUREMENT_BEGUN else 350):
                values = ",".join(f"{name}={_value(name, step * 7 + series)}" for name in fields)
                yield f"{key} {values} {(NOW_S - 10 * step - 5 - series) * 10**9}"
    for job in range(200):
        values = f"index={job}i,head={math.sin(job) * 40},valves={job % 7}i"
        yield f"result,ensemble={ENSEMBLE} {values} {10**18 + job * 1000}"
    yield f'result,ensemble=other index=0i,head=7,label="a text" {10**18}'


def _value(name: str, step: int) -> str:
    if name in TEXTS:
        return f'"{name} {step % 5}"'
    if name == "aof_ok":
        return "true" if step % 3 else "false"
    if name.endswith(("_percent", "_s")):
        return str(step % 41 * 1.37)
    return f"{(step * 7919) % 1000}i"


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    with running(tmp_path_factory.mktemp("influx")) as database:
        yield database


@pytest.fixture(scope="module")
def both(influx: Influx, running_endpoint: Endpoint) -> Both:
    both = Both(influx, running_endpoint)
    both.write("\n".join(observed()))
    return both


class Both:
    """InfluxDB and the local service, with the same points."""

    def __init__(self, influx: Influx, endpoint: Endpoint) -> None:
        self._influx = influx
        self._endpoint = endpoint

    def write(self, lines: str) -> None:
        requests.post(f"{self._influx.url}/write?db=cloudburst", lines, timeout=60).raise_for_status()
        assert self._endpoint.write(lines) == (204, "")

    def answers(self, query: str, epoch: str = "ns") -> list[Any]:
        """The results of both."""
        asked = {"db": names.BUCKET, "q": query} | ({"epoch": epoch} if epoch else {})
        theirs = requests.get(f"{self._influx.url}/query", asked, timeout=60)
        ours = ask(self._endpoint, **asked)
        assert (theirs.status_code, ours.status_code) == (200, 200), theirs.text + ours.text
        return [ordered(one.json()["results"]) for one in (theirs, ours)]


def ask(endpoint: Endpoint, *, method: str = "GET", **asked: str) -> requests.Response:
    return requests.request(
        method,
        f"{endpoint.url}/query",
        params=asked if method == "GET" else None,
        data=asked if method == "POST" else None,
        headers={"Authorization": f"Token {TOKEN}"},
        timeout=60,
    )


def ordered(results: list[Any]) -> list[Any]:
    """Points of one time have no order among them; errors are told in other words."""
    for result in results:
        if "error" in result:
            result["error"] = True
        for series in result.get("series", []):
            by_time = groupby(series["values"], key=lambda row: row[0])
            series["values"] = [row for _, rows in by_time for row in sorted(rows, key=as_floats)]
    return results


def as_floats(row: list[Any]) -> list[str]:
    return [repr(one + 0.0 if type(one) in (int, float) else one) for one in row]


def equal(theirs: Any, ours: Any) -> bool:
    """Whether it is the same JSON; InfluxDB writes whole floats without a dot."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return theirs.keys() == ours.keys() and all(equal(theirs[key], ours[key]) for key in theirs)
    if isinstance(theirs, list) and isinstance(ours, list):
        return len(theirs) == len(ours) and all(map(equal, theirs, ours))
    if isinstance(ours, float) and type(theirs) in (int, float):
        return math.isclose(theirs, ours, rel_tol=1e-9, abs_tol=1e-9)
    return type(theirs) is type(ours) and bool(theirs == ours)


@pytest.mark.parametrize("query", QUERIES)
def test_the_dashboards_queries_give_what_influxdb_gives(both: Both, query: str) -> None:
    asked = filled(query.replace("now()", f"{NOW_S}s"), **VALUES)

    theirs, ours = both.answers(asked)

    assert equal(theirs, ours), (theirs, ours)
    assert "series" in theirs[0], "nothing was compared"


POINTS = """m,a=x f=1,i=1i,s="a",b=true 1000
m,a=x f=2,i=4i 2000
m,a=y f=3,i=9i,s="b" 2000
m,a=y f=4,s="c",b=false 3000
m i=7i 5000
m,a=y,c=z f=2,i=100i 12000
n,a=it's\\ 5\\,\\ or f=-1.5,i=-9i,name\\ "q=1 -1700000000123456789
n,é=ö f=0,i=9i 1700000000123456789
big,a=x i=9223372036854775807i,f=1e300 1
big,a=x i=-9223372036854775808i,f=-1e300 2
big,a=x i=9223372036854775807i,f=1e300 3"""

SUBSET = r"""
SELECT f FROM m
SELECT f, s FROM m ORDER BY time DESC LIMIT 2
select f from m order by time asc
SELECT i FROM m
SELECT b FROM m
SELECT f, nope FROM m
SELECT nope FROM m
SELECT f, f, i AS f FROM m
SELECT f AS x, i AS x FROM m
SELECT f FROM m GROUP BY c, a LIMIT 1
SELECT f FROM m GROUP BY a ORDER BY time DESC
SELECT 2 * i - f / 2, (i + 1) * (i - 1) FROM m
SELECT i / 0, f / 0 FROM m
SELECT -2 * f FROM m
SELECT last(f) FROM m
SELECT last(f), last(s) FROM m
SELECT last(i), last(i) FROM m
SELECT last(f) AS f, last(nope) FROM m
SELECT last(nope) FROM m
SELECT last(b), count(b) FROM m
SELECT last(f), mean(i) FROM m WHERE time > 1500 AND time < 2500
SELECT max(f) FROM m WHERE time > 1
SELECT min(i) FROM m
SELECT max(b), min(b) FROM m
SELECT mean(f) FROM m WHERE time > 1500
SELECT percentile(f, 50), percentile(f, 50), percentile(i, 95) FROM m
SELECT percentile(f, 0) FROM m
SELECT percentile(f, 1) FROM m
SELECT percentile(f, 50) FROM m
SELECT percentile(f, 99.5) FROM m
SELECT percentile(f, 200) FROM m
SELECT median(i), median(f), stddev(i), spread(i), spread(f), count(s), mean(i) FROM m
SELECT median(i), stddev(i), spread(i), mean(f) FROM m GROUP BY a
SELECT 100 * last(f) / last(i), last(i) / count(f), count(f) / 0, count(i) - count(f) FROM m
SELECT last(i) * 9223372036854775807, spread(i), mean(i), 10 * last(f), mean(f) FROM big
SELECT 100 - 100 * last(i) / last(f) AS used FROM m GROUP BY a
SELECT 100 * mean(f) / mean(i) FROM m WHERE time >= 1 AND time < 18u GROUP BY time(2u), a fill(none)
SELECT mean(f), last(i) FROM m WHERE time >= 1 AND time < 18u GROUP BY time(2u), a
SELECT mean(i), count(f) FROM m WHERE time >= 1 AND time < 18u GROUP BY time(2u), a fill(null)
SELECT count(f) FROM m WHERE time >= 1 AND time < 18u GROUP BY time(3u) fill(none) ORDER BY time DESC LIMIT 2
SELECT last(f) FROM m WHERE time >= 1 AND time < 18u GROUP BY time(3u), a ORDER BY time DESC LIMIT 2
SELECT non_negative_difference(last(i)) FROM m WHERE time >= 1 AND time < 18u GROUP BY time(2u) fill(none)
SELECT non_negative_difference(last(i)) FROM m WHERE time > 2500 AND time < 9u GROUP BY time(2u)
SELECT 2 * non_negative_difference(last(i)) FROM m WHERE time >= 5u AND time < 13u GROUP BY time(1u)
SELECT non_negative_difference(last(i)) AS n FROM m WHERE time >= 1 AND time < 18u GROUP BY time(2u), a
SELECT count(f) FROM m WHERE time > 0 AND time < now() GROUP BY time(1000w)
SELECT count(f) FROM m WHERE time > now() - 1m GROUP BY time(10s)
SELECT count(f) FROM m WHERE time > 0 AND time < 1s GROUP BY time(1u)
SELECT sample(f, 2000) AS v FROM m GROUP BY a
SELECT sample(s, 2000) FROM m
SELECT stddev(v) AS d, percentile(v, 95) AS "95 %", median(v) FROM (SELECT sample(f, 9) AS v FROM m)
SELECT i, s FROM (SELECT last(i) AS i, last(s) AS s FROM m GROUP BY a) WHERE i > 5 GROUP BY a
SELECT i, s FROM (SELECT last(i) AS i, last(s) AS s FROM m GROUP BY a) WHERE i > 0 AND s = 'a'
SELECT max(v), count(v) FROM (SELECT mean(f) AS v FROM m GROUP BY a)
SELECT v FROM (SELECT mean(f) AS v FROM m WHERE time >= 1 AND time < 18u GROUP BY time(2u), a fill(none))
SELECT mean(v) FROM (SELECT max(f) AS v FROM (SELECT f FROM m GROUP BY a, c) GROUP BY a)
SELECT f FROM m WHERE i > 3.5
SELECT f FROM m WHERE i != 4
SELECT f, i FROM m WHERE s <> 'a'
SELECT f FROM m WHERE s > 'a'
SELECT f FROM m WHERE s > 3
SELECT f FROM m WHERE f = 'a'
SELECT f FROM m WHERE b = true
SELECT f FROM m WHERE i <= -3
SELECT mean(f) FROM m WHERE i > 3
SELECT i FROM m WHERE a = ''
SELECT i FROM m WHERE a != 'x'
SELECT i FROM m WHERE a != ''
SELECT i FROM m WHERE nope = ''
SELECT i FROM m WHERE nope = 'x'
SELECT i FROM m WHERE nope > 3
SELECT i FROM m WHERE time > 5000 AND time < 4000
SELECT f FROM m WHERE time = 2000 AND a = 'y'
SELECT f FROM m WHERE time > -9223372036854775808 AND time < 9223372036854775807
SELECT percentile(f, 5) FROM m WHERE a = 'x' AND time >= '1970-01-01' AND time < 9h GROUP BY time(3h)
SELECT f FROM m WHERE time > '1970-01-01T00:00:00.000002Z' AND time < '1970-01-01 00:00:00.000010'
SELECT last(i), count(i) FROM m WHERE time <= '1970-01-01T01:00:00.000002+01:00' + 1u - 2ns
SELECT "f"::field FROM "m" WHERE ("a"::tag = 'x') AND time > 0 AND ((time < 10s)) GROUP BY "a"::tag
SELECT f, "name \"q" FROM n
SELECT f FROM n WHERE a = 'it\'s 5, or'
SELECT f FROM n GROUP BY "a"
SELECT mean(s) FROM m
SELECT spread(b) FROM m
SELECT min(s) FROM m
SELECT mean(x) FROM nothing
SELECT last(f) FROM m; SELECT last(i) FROM m;
SHOW MEASUREMENTS LIMIT 2
SHOW RETENTION POLICIES ON cloudburst
SHOW FIELD KEYS
SHOW FIELD KEYS FROM m LIMIT 1
SHOW FIELD KEYS FROM nothing
SHOW TAG KEYS
SHOW TAG KEYS ON cloudburst FROM m
SHOW TAG KEYS LIMIT 1
SHOW TAG VALUES FROM m WITH KEY = a
SHOW TAG VALUES WITH KEY IN (a, "é")
"""


@pytest.fixture(scope="module")
def small(both: Both) -> Both:
    both.write(POINTS)
    return both


@pytest.mark.parametrize("query", SUBSET.strip().splitlines())
def test_the_subset_gives_what_influxdb_gives(small: Both, query: str) -> None:
    theirs, ours = small.answers(query)

    assert equal(theirs, ours), (theirs, ours)


@pytest.mark.parametrize("epoch", ["", "ns", "u", "ms", "s", "m", "h"])
def test_times_are_written_as_by_influxdb(small: Both, epoch: str) -> None:
    theirs, ours = small.answers("SELECT f FROM n", epoch)

    assert equal(theirs, ours), (theirs, ours)
    assert len(ours[0]["series"][0]["values"]) == 2


NUMBERED = count()
NUMBERS = {
    "f": st.floats(-1e6, 1e6).map(lambda value: f"{value:.6f}"),
    "i": st.integers(-(10**9), 10**9).map("{}i".format),
}
FIELDS = NUMBERS | {"s": st.sampled_from(['"a"', '"b"', '""']), "b": st.sampled_from(["true", "false"])}
TAGS = st.sampled_from(["", ",a=x", ",a=y", ",a=x,c=z", ",c=z"])
ALONE = ["min", "max", "mean", "median", "spread", "stddev"]
CONDITIONS = ["a = 'x'", "a != 'x'", "c = ''", "f > 0", "i <= 0", "s = 'a'", "s != 'a'", "b = true"]
FIELD = st.sampled_from(sorted(FIELDS))
NUMBER = st.sampled_from(sorted(NUMBERS))


@st.composite
def points(draw: st.DrawFn) -> list[str]:
    """Lines without a measurement."""
    chosen = st.dictionaries(FIELD, st.none(), min_size=1)
    fields = [f"{name}={draw(FIELDS[name])}" for name in draw(chosen)]
    return [f"{draw(TAGS)} {','.join(fields)} {draw(st.integers(0, 40))}"]


def call(draw: st.DrawFn) -> str:
    function = draw(
        st.sampled_from(["count", "last", "min", "max", "mean", "median", "spread", "stddev", "%"])
    )
    if function in ("count", "last"):
        return f"{function}({draw(FIELD)})"
    if function == "%":
        return f"percentile({draw(NUMBER)}, {draw(st.integers(0, 101))})"
    return f"{function}({draw(NUMBER)})"


def where(draw: st.DrawFn) -> str:
    span = draw(st.sampled_from(["time >= 0 AND time < 50", "time > 12 AND time <= 33"]))
    conditions = [span, *draw(st.lists(st.sampled_from(CONDITIONS), max_size=2))]
    return " AND ".join(conditions)


@st.composite
def queries(draw: st.DrawFn) -> str:
    """Queries of the subset, of the measurement ``$m``."""
    tags = draw(st.sampled_from(["", "a", "a, c"]))
    interval = draw(st.sampled_from(["", "", "time(7ns)", "time(10ns)"]))
    group = " GROUP BY " + ", ".join(filter(None, (interval, tags))) if interval or tags else ""
    tail = group + (draw(st.sampled_from(["", " fill(none)", " fill(null)"])) if interval else "")
    tail += draw(st.sampled_from(["", " ORDER BY time DESC"]))
    kind = draw(st.sampled_from(["raw", "calls", "calls", "math", "difference", "sub"]))
    if kind == "difference" and interval:
        inner = f"{draw(st.sampled_from(['last', 'max', 'mean']))}({draw(NUMBER)})"
        return f"SELECT non_negative_difference({inner}) AS d FROM $m WHERE {where(draw)}{tail}".removesuffix(
            " ORDER BY time DESC"
        )
    if kind == "raw" and not interval:
        columns = ", ".join(draw(st.lists(FIELD, min_size=1, max_size=3)))
        return f"SELECT {columns} FROM $m WHERE {where(draw)}{tail}"
    if kind == "math":
        left, right = (f"{draw(st.sampled_from(['max', 'mean', 'spread']))}({draw(NUMBER)})" for _ in "12")
        computed = f"{left} {draw(st.sampled_from('+-*/'))} 3 * {right} - 1"
        return f"SELECT {computed} FROM $m WHERE {where(draw)}{tail}"
    if kind == "sub":
        # Of one column: where one of several is null, 1.6 gives less than there is, or takes 0 for it.
        value = call(draw).replace("(s)", "(f)").replace("(b)", "(i)")
        inner = f"SELECT {value} AS v FROM $m WHERE {where(draw)}"
        outer = draw(st.sampled_from(["max(v), count(v)", "mean(v), median(v)", "last(v)"]))
        return f"SELECT {outer} FROM ({inner}{group}{' fill(none)' if interval else ''}) WHERE v < 10000"
    # Alone, a percentile tells the time of its point, and of equal ones any.
    columns = ", ".join(call(draw) for _ in range(draw(st.integers(1, 3)))) + ", count(f)"
    return f"SELECT {columns} FROM $m WHERE {where(draw)}{tail}"


@settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(st.lists(points(), min_size=1, max_size=25), st.lists(queries(), min_size=5, max_size=15))
def test_random_points_and_queries_give_what_influxdb_gives(both: Both, lines: Any, asked: list[str]) -> None:
    measurement = f"random_{next(NUMBERED)}"
    both.write("\n".join(f"{measurement}{line}" for some in lines for line in some))

    for query in asked:
        theirs, ours = both.answers(query.replace("$m", measurement))
        assert equal(theirs, ours), (query, theirs, ours)


# -- the door ---------------------------------------------------------------------------------------------


def test_it_is_asked_by_get_and_by_a_form(small: Both, running_endpoint: Endpoint) -> None:
    asked = {"q": "SELECT last(f) FROM m", "db": "cloudburst", "epoch": "ns"}
    expected = {
        "results": [
            {
                "statement_id": 0,
                "series": [{"name": "m", "columns": ["time", "last"], "values": [[12000, 2.0]]}],
            }
        ]
    }

    assert ask(running_endpoint, **asked).json() == expected
    assert ask(running_endpoint, method="POST", **asked).json() == expected


def test_what_the_database_is_called(running_endpoint: Endpoint) -> None:
    databases = {"name": "databases", "columns": ["name"], "values": [["cloudburst"]]}

    def result(**asked: str) -> dict[str, Any]:
        (result,) = ask(running_endpoint, **asked).json()["results"]
        return result

    assert result(q="SHOW DATABASES")["series"] == [databases]
    assert result(q="SELECT f FROM m")["error"] == "database name required"
    for query in ("SHOW MEASUREMENTS", "SHOW TAG KEYS ON other", "SELECT f FROM m"):
        assert result(q=query, db="other")["error"].startswith("database not found: other")


def test_nobody_asks_without_the_token(running_endpoint: Endpoint) -> None:
    for method in ("GET", "POST"):
        assert running_endpoint.ask(method, "/query?db=cloudburst&q=SHOW+DATABASES", token="")[0] == 401


def test_after_a_statement_that_fails_none_is_executed(small: Both, running_endpoint: Endpoint) -> None:
    asked = "SELECT f FROM m LIMIT 1; SELECT mean(s) FROM m; SELECT f FROM m"

    results = ask(running_endpoint, db="cloudburst", q=asked).json()["results"]

    assert [result["statement_id"] for result in results] == [0, 1, 2]
    assert [result.get("error") for result in results] == [
        None,
        'mean("s"): its values are no numbers',
        "not executed",
    ]


OUTSIDE = """
SELECT * FROM m
SELECT f INTO x FROM m
SELECT sum(f) FROM m
SELECT mean(*) FROM m
SELECT f, last(f) FROM m
SELECT time, f FROM m
SELECT f FROM m, n
SELECT f FROM cloudburst.autogen.m
SELECT f FROM /m/
SELECT f FROM m WHERE a =~ /x|y/
SELECT f FROM m WHERE a = 'x' OR a = 'y'
SELECT f FROM m WHERE time != 5
SELECT f FROM m GROUP BY *
SELECT f FROM m LIMIT 5 OFFSET 5
SELECT f FROM m SLIMIT 5
SELECT f FROM m ORDER BY time DESC tz('Europe/Berlin')
SELECT mean(f) FROM m GROUP BY time(1s)
SELECT mean(f) FROM m WHERE time > 0 GROUP BY time(1s, 500ms)
SELECT mean(f) FROM m WHERE time > 0 GROUP BY time(1s) fill(0)
SELECT mean(f) FROM m WHERE time > 0 GROUP BY time(1s) fill(previous)
SELECT non_negative_difference(f) FROM m WHERE time > 0 GROUP BY time(1s)
SELECT sample(f, 5), count(f) FROM m
SELECT mean(f) FROM (SELECT f FROM m) WHERE time > 0
SELECT mean(f) FROM (SELECT f FROM m) GROUP BY a
SHOW SERIES
SHOW TAG KEYS WHERE a = 'x'
EXPLAIN SELECT f FROM m
DROP MEASUREMENT m
DELETE FROM m
CREATE DATABASE x
"""


@pytest.mark.parametrize("query", OUTSIDE.strip().splitlines())
def test_what_is_outside_of_the_subset_is_named_in_one_sentence(
    running_endpoint: Endpoint, query: str
) -> None:
    answered = ask(running_endpoint, db="cloudburst", q=query)

    assert answered.status_code == 400
    message = answered.json()["error"]
    assert message.endswith("has all of InfluxQL and Flux")
    assert "\n" not in message


def test_a_tag_is_not_selected(small: Both, running_endpoint: Endpoint) -> None:
    (result,) = ask(running_endpoint, db="cloudburst", q="SELECT a, f FROM m").json()["results"]

    assert "tag among what is selected" in result["error"]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "SELECT",
        "SELECT f FROM",
        "SELECT 'f",
        'SELECT "f FROM m',
        "SELECT f FROM m WHERE a = 'x",
        "SELECT f FROM m WHERE time > 'yesterday'",
        "SELECT f FROM m WHERE time > '2024-02-30'",
        "SELECT f FROM m WHERE time > '0000-00-00T99:99:99Z'",
        "SELECT f FROM m LIMIT -1",
        "SELECT f FROM m LIMIT 1.5",
        "SELECT f FROM m LIMIT " + "9" * 50_000,
        "SELECT " + "9" * 50_000 + " * f FROM m",
        "SELECT f * 9223372036854775808 FROM m",
        "SELECT f FROM m WHERE f > 1" + "0" * 400 + ".5",
        "SELECT mean(f) FROM m WHERE time > 0 GROUP BY time(" + "9" * 5000 + "w)",
        "SELECT mean(f) FROM m WHERE time > 0 GROUP BY time(0s)",
        "SELECT mean(f) FROM m WHERE time > 0 GROUP BY time(9999999999999999999w)",
        "SELECT " + "(" * 20_000 + "f" + ")" * 20_000 + " FROM m",
        "SELECT f" + " + f" * 10_000 + " FROM m",
        "SELECT " + "mean(" * 10_000,
        "SELECT f FROM " + "(SELECT f FROM " * 4000,
        "SELECT f FROM m WHERE " + "(" * 20_000 + "a = 'x'",
        "SELECT " + "- " * 20_000 + "f FROM m",
        "SELECT f FROM m WHERE a = '" + "\\" * 60_001,
        "\0",
        "SELECT f FROM m WHERE a = 'x' \N{ZERO WIDTH SPACE}",
        "SELECT f FROM m;" * 5000 + "x",
        "x" * 1_000_000,
        "'" * 1_000_000,
    ],
)
def test_a_hostile_query_is_refused_at_once(running_endpoint: Endpoint, query: str) -> None:
    began = time.monotonic()

    answered = ask(running_endpoint, method="POST", db="cloudburst", q=query)

    assert time.monotonic() - began < 3
    assert answered.status_code == 400, answered.text
    assert len(answered.text) < 500
    assert answered.json()["error"]


def test_a_query_holds_no_more_than_there_is_room_for(both: Both, running_endpoint: Endpoint) -> None:
    for start in range(0, 200_000, 50_000):
        lines = (f"wide,part=p{n % 2} x={n},y={n} {n * 10**9}" for n in range(start, start + 50_000))
        both.write("\n".join(lines))
    years = "time >= 0 AND time < 100000s"
    means = ", ".join(f"mean(x) AS m{n}" for n in range(50))
    for query in (
        f"SELECT {means} FROM wide WHERE {years} GROUP BY time(1s), part",
        f"SELECT {', '.join('xy' * 500)} FROM wide",
    ):
        began = time.monotonic()
        (result,) = ask(running_endpoint, db="cloudburst", q=query, method="POST").json()["results"]
        assert time.monotonic() - began < 15
        assert "too large for a local stack, it needs more than" in result["error"]
    asked = f"SELECT count(x), last(y) FROM wide WHERE {years} GROUP BY part"
    (result,) = ask(running_endpoint, db="cloudburst", q=asked, epoch="s").json()["results"]
    assert [series["values"] for series in result["series"]] == [
        [[0, 50_000, 99_998.0 + n]] for n in range(2)
    ]


@pytest.mark.parametrize(
    ("limit", "value", "query"),
    [
        ("POINTS_LIMIT", 19_999, "SELECT last(x) FROM m"),
        ("SECONDS_LIMIT", 0, "SELECT x FROM m LIMIT 1"),
        ("SECONDS_LIMIT", 0.3, f"SELECT {', '.join(f'percentile(x, {n})' for n in range(1000))} FROM m"),
        ("SECONDS_LIMIT", 0.3, f"SELECT x FROM m WHERE {' AND '.join(['x >= 0'] * 1000)}"),
        ("SECONDS_LIMIT", 0.3, f"SELECT x{' + x' * 90} FROM m" + f"; SELECT x{' + x' * 90} FROM m" * 20),
    ],
    ids=["points", "seconds to read", "to compute", "to compare", "of all statements together"],
)
def test_a_query_reads_no_more_than_there_is_time_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float, query: str
) -> None:
    store = Store(tmp_path / "points.db")
    store.write(parse_lines("\n".join(f"m x={n} {n}" for n in range(20_000)), now=0))
    statements = [one for one in parse(query, now=0) if isinstance(one, Select)]
    monkeypatch.setattr(answer, limit, value)
    budget = answer.Budget()
    began = time.monotonic()

    with pytest.raises(QueryError, match=r"too large for a local stack, it (reads|takes) more than"):
        [answer.select(store, statement, budget, 0) for statement in statements]

    assert time.monotonic() - began < 3


@pytest.mark.parametrize("interval", ["1w", "10000w", "106751d"])
def test_the_ends_of_time_are_no_trouble(small: Both, running_endpoint: Endpoint, interval: str) -> None:
    asked = f"time > -9223372036854775808 AND time < 9223372036854775807 GROUP BY time({interval})"
    for query in (
        f"SELECT count(f) FROM m WHERE {asked}",
        f"SELECT non_negative_difference(max(f)) FROM m WHERE {asked}",
        f"SELECT max(v) FROM (SELECT count(f) AS v FROM m WHERE {asked} fill(none))",
    ):
        for epoch in ("", "ns"):
            answered = ask(running_endpoint, db="cloudburst", q=query, epoch=epoch)
            assert answered.status_code == 200, answered.text
