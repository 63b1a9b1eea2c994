"""The dashboards: their form, and each of their queries on a real database with real measurements."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import requests

from cloudburst import names
from tests.influx import Influx, running
from tests.observer.conftest import Observed
from tests.wait import wait_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
GRAFANA = ROOT / "grafana"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in (GRAFANA / "dashboards").glob("*.json")}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, dashboard in sorted(DASHBOARDS.items())
    for panel in dashboard["panels"]
]
VARIABLES = {variable["name"]: variable for variable in DASHBOARDS["ensemble"]["templating"]["list"]}

QUIET = {"Failures by fingerprint", "Failures over time", "Lost leases"}
"""They are empty as long as all is well."""

BUCKETS = {"cloudburst": names.BUCKET, "cloudburst-stack": names.BUCKET_STACK}
"""By the uid of a data source, what it asks."""

SPAN = {"jobs_per_dot": "1u", "jobs_from": "0", "jobs_to": "1000000"}

KINDS = {"timeseries", "stat", "gauge", "table", "trend"}
"""Panels that Grafana 11 has; the old ``graph`` is gone."""


def filled(text: str, **values: str) -> str:
    """A query as Grafana sends it, with what stands for variables and for the time range replaced."""
    now_ms = round(time.time() * 1000)
    values |= {
        "timeFilter": f"time >= {now_ms - 3_600_000}ms and time <= {now_ms}ms",
        "__interval": "10s",
    }
    made = re.sub(r"\$(\w+)", lambda found: values[found.group(1)], text)
    assert "$" not in made
    return made


def chosen(influx: Influx, name: str, **values: str) -> list[str]:
    """The choices of a variable: the first column of texts, as far as its pattern allows."""
    variable = VARIABLES[name]
    rows = influx.rows(filled(variable["query"]["query"], **values), BUCKETS[variable["datasource"]["uid"]])
    column = next((key for key, value in rows[0].items() if isinstance(value, str)), "") if rows else ""
    pattern = re.compile(variable["regex"].strip("/") or ".*")
    return [row[column] for row in rows if pattern.match(row[column])]


@pytest.fixture(scope="module")
def values(observed: Observed) -> dict[str, str]:
    """What the variables stand for, once an ensemble with good and bad jobs has ended."""
    older = observed.submit("worker.add", {"a": 0, "b": 0})
    observed.wait(older)
    ensemble = observed.submit(
        "worker.square_or_fail", *({"n": n} for n in range(60)), digest=upload_squares(observed)
    )
    observed.wait(ensemble)

    def ended() -> bool:
        where = f"WHERE \"ensemble\" = '{ensemble}'"
        ended = observed.influx.rows(f'SELECT last("state") AS "state" FROM "cloudburst_ensemble" {where}')
        return bool(ended) and ended[0]["state"] == "done"

    wait_until(ended, 20, "the end of the ensemble in the database")
    assert chosen(observed.influx, "ensemble")[:2] == [ensemble, older], "the latest first"
    hidden = ("jobs_per_dot", "jobs_from", "jobs_to")
    (dot,), (first,), (last,) = (chosen(observed.influx, name, ensemble=ensemble) for name in hidden)
    fields = chosen(observed.influx, "field")
    assert {"square", "sum"} <= set(fields)
    assert "index" not in fields
    return {"ensemble": ensemble, "jobs_per_dot": dot, "jobs_from": first, "jobs_to": last, "field": "square"}


def upload_squares(observed: Observed) -> str:
    directory = observed.directory / "squares"
    directory.mkdir()
    (directory / "Pipfile").write_text("[packages]\n")
    (directory / "worker.py").write_text(
        "def square_or_fail(params):\n"
        "    if params['n'] % 10 == 9:\n"
        "        raise ValueError('a nine')\n"
        "    return {'square': params['n'] ** 2, 'label': 'text'}\n"
    )
    return observed.upload(directory)


@pytest.mark.parametrize("panel", PANELS)
def test_every_query_finds_what_was_measured(observed, values, panel):
    for target in panel["targets"]:
        query = filled(target["query"], **values)
        database = BUCKETS[target["datasource"]["uid"]]
        if panel["title"] == "Lost leases":
            observed.influx.query(query, database)
            continue
        rows = wait_until(
            lambda query=query, database=database: observed.influx.rows(query, database), 5, query
        )
        shown = {name for row in rows for name, value in row.items() if value is not None} - {"time"}
        assert shown, f"{query}: only times"


@pytest.mark.parametrize("panel", PANELS)
def test_nothing_is_found_in_a_new_database_and_nothing_fails(fresh, panel):
    for target in panel["targets"]:
        assert fresh.rows(filled(target["query"], ensemble="", field="", **SPAN)) == []


def test_variables_find_nothing_in_a_new_database(fresh):
    assert [chosen(fresh, name, ensemble="") for name in VARIABLES] == [[]] * len(VARIABLES)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory):
    with running(tmp_path_factory.mktemp("fresh")) as influx:
        yield influx


def test_a_query_that_wants_a_value_for_each_second_of_centuries_is_refused(fresh):
    requests.post(f"{fresh.url}/write?db=cloudburst", "m x=1 0", timeout=60).raise_for_status()
    query = (
        "SELECT count(x) FROM m WHERE time > '1900-01-01' AND time < '2100-01-01' GROUP BY time(1s) fill(0)"
    )

    answer = requests.get(f"{fresh.url}/query", {"db": "cloudburst", "q": query}, timeout=30).json()

    assert "max-select-buckets limit exceeded" in answer["results"][0]["error"]
    fresh.query("DROP MEASUREMENT m")


def by_title(title: str) -> dict[str, Any]:
    return next(panel.values[0] for panel in PANELS if panel.values[0]["title"] == title)


def test_returned_values_are_shown_over_the_index(observed, values):
    rows = observed.influx.rows(filled(by_title("Returned: $field")["targets"][0]["query"], **values))

    assert len(rows) == 54
    assert all(row["square"] == row["index"] ** 2 for row in rows)


def test_returned_values_are_shown_in_numbers(observed, values):
    queries = [target["query"] for target in by_title("Returned: $field, in numbers")["targets"]]
    rows = [observed.influx.rows(filled(query, **values)) for query in queries]
    ((exact,), (sampled,)) = rows

    assert (exact["jobs"], exact["least"], exact["most"]) == (54, 0, 58**2)
    assert sampled["median"] == pytest.approx(29**2, rel=0.1), "so few are all in the sample"
    assert 0 <= sampled["5 %"] < sampled["median"] < sampled["95 %"] <= 58**2


def test_failures_are_listed_with_their_fingerprint(observed, values):
    query = filled(by_title("Failures by fingerprint")["targets"][0]["query"], **values)

    (row,) = wait_until(lambda: observed.influx.rows(query), what="failures")

    assert row["jobs"] == 6
    assert row["error"] == "ValueError: a nine"
    assert len(row["fingerprint"]) == 8


def test_a_million_results_make_a_picture_of_a_thousand_dots_within_seconds(fresh):
    lines = (f"result,ensemble=many index={n}i,x={n % 7}.0 {10**18 + n * 1000}" for n in range(1_000_000))
    for _ in range(20):
        body = "\n".join(islice(lines, 50_000))
        requests.post(f"{fresh.url}/write?db=cloudburst", body, timeout=60).raise_for_status()
    query = by_title("Returned: $field")["targets"][0]["query"]
    began = time.monotonic()
    span = {"jobs_per_dot": "1000u", "jobs_from": str(10**18), "jobs_to": str(10**18 + 10**9)}
    rows = fresh.rows(filled(query, ensemble="many", field="x", **span))

    assert len(rows) == 1000
    assert [rows[0]["index"], rows[-1]["index"]] == [499.5, 999_499.5]
    assert time.monotonic() - began < 30
    fresh.query("DROP MEASUREMENT result")


# -- their form -------------------------------------------------------------------------------------------


def test_they_are_what_the_script_makes():
    made = subprocess.run(
        [
            sys.executable,
            "-c",
            "import dashboards, json; print(json.dumps(dashboards.dashboards()), end='')",
        ],
        cwd=GRAFANA,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert json.loads(made) == DASHBOARDS, "run `make dashboards`"


def test_each_has_an_identity_of_its_own():
    assert {name: dashboard["uid"] for name, dashboard in DASHBOARDS.items()} == {
        "ensemble": "cloudburst-ensemble",
        "stack": "cloudburst-stack",
    }
    for dashboard in DASHBOARDS.values():
        assert "id" not in dashboard
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("panel", PANELS)
def test_a_newcomer_can_read_every_panel(panel):
    assert panel["type"] in KINDS
    assert panel["title"]
    assert len(panel["description"]) > 15
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"]
    assert defaults["noValue"]
    assert defaults["thresholds"]["steps"][0]["value"] is None


@pytest.mark.parametrize("panel", PANELS)
def test_every_query_goes_to_the_bucket_that_has_what_is_asked_for(panel):
    known = {name: fields for name, (_, fields) in names.OBSERVED.items()}
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
        asked = set(re.findall(r'FROM "([^"]+)"', target["query"]))
        assert len(asked) == 1
        (measurement,) = asked
        own = measurement != names.MEASUREMENT_RESULT
        uid = "cloudburst-stack" if own else "cloudburst"
        assert target["datasource"] == {"type": "influxdb", "uid": uid}
        if own:
            fields = set(re.findall(r'(?:last|mean|spread)\("([^"]+)"\)', target["query"]))
            assert fields <= set(known[measurement])
            assert fields


def test_no_panels_overlap():
    for dashboard in DASHBOARDS.values():
        cells = [
            (x, y)
            for place in (panel["gridPos"] for panel in dashboard["panels"])
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(cells) == len(set(cells))
        assert max(x for x, _ in cells) < 24


def test_the_datasources_are_those_that_dashboards_name_and_their_token_is_a_secret():
    text = (GRAFANA / "provisioning" / "datasources" / "cloudburst.yaml").read_text()
    sources = text.split("  - name:")[1:]

    assert len(sources) == len(BUCKETS)
    for source, (uid, bucket) in zip(sources, BUCKETS.items(), strict=True):
        for line in (
            f"uid: {uid}\n",
            "type: influxdb\n",
            "url: http://gateway:8086\n",
            f"dbName: {bucket} #",
            "httpHeaderName1: Authorization\n",
            "httpHeaderValue1: Token $__file{/run/secrets/influx-read-token}\n",
        ):
            assert line in source
