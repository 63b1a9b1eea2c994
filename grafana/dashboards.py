"""Writes ``dashboards/*.json``, which Grafana reads: ``make dashboards``.

Queries are InfluxQL, which InfluxDB 1, 2 and 3 understand. The tests run each of them against a database.
Points of results lie one microsecond apart, from the time at which their ensemble was created: a picture of
them has the index on its axis, and takes no notice of the time range of the dashboard.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cloudburst import names

Panel = dict[str, Any]
Steps = Sequence[tuple[float, str]]

JOBS, STACK = ({"type": "influxdb", "uid": uid} for uid in ("cloudburst", "cloudburst-stack"))
"""The bucket with the points of jobs, and the one with what the stack measures of itself."""

COLUMNS = 24
NOTHING, UNKNOWN, NONE_KNOWN = "no data", "not known", "none known"
"""What stands where a query found nothing. Grafana shows the same where it failed, beside a red mark in the
panel's corner: so it has to be true then, too."""

GREEN, YELLOW, RED, BLUE, GREY = "green", "yellow", "red", "blue", "text"

ONE = "\"ensemble\" = '$ensemble'"
"""The ensemble that is chosen at the top."""

ENSEMBLE, FAILURE, RESULT = (names.MEASUREMENT_ENSEMBLE, names.MEASUREMENT_FAILURE, names.MEASUREMENT_RESULT)
NODE, QUEUE = names.MEASUREMENT_NODE, names.MEASUREMENT_QUEUE
REDIS, DISK = names.MEASUREMENT_REDIS, names.MEASUREMENT_DISK


def source(text: str) -> dict[str, str]:
    """Which of them has the answer to a query."""
    return STACK if any(f'"{measurement}"' in text for measurement in names.OBSERVED) else JOBS


def query(text: str, *, table: bool = False, alias: str = "") -> dict[str, Any]:
    """One query of a panel. ``alias`` names its series, such as ``$tag_node``."""
    made = {
        "datasource": source(text),
        "rawQuery": True,
        "query": text,
        "resultFormat": "table" if table else "time_series",
    }
    return made | ({"alias": alias} if alias else {})


def thresholds(steps: Steps) -> dict[str, Any]:
    """From which value on it has which colour. What is not known has Grafana's first, so it is grey."""
    of_all = [(None, GREY), *steps]
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in of_all]}


def panel(
    kind: str,
    title: str,
    description: str,
    queries: Sequence[dict[str, Any]],
    *,
    size: tuple[int, int],
    options: dict[str, Any],
    unit: str = "short",
    steps: Steps = ((0, GREEN),),
    **defaults: Any,
) -> Panel:
    """One panel; ``steps``: from which value on it has which colour; ``defaults`` hold for all its fields."""
    custom = defaults.pop("overrides", [])
    transformations = defaults.pop("transformations", [])
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": queries[0]["datasource"],
        "targets": [{"refId": chr(ord("A") + number)} | one for number, one in enumerate(queries)],
        "interval": "1s" if queries[0]["datasource"] == STACK and ONE in queries[0]["query"] else "10s",
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "noValue": NOTHING,
                "thresholds": thresholds(steps),
                **defaults,
            },
            "overrides": custom,
        },
        "options": options,
        "transformations": transformations,
        "gridPos": {"w": size[0], "h": size[1]},
    }


def stat(
    title: str, description: str, *texts: str, width: int, is_text: bool = False, **settings: Any
) -> Panel:
    """A large number, the latest; or a text."""
    options = {
        "colorMode": settings.pop("color_mode", "value"),
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
        "textMode": settings.pop("text_mode", "auto"),
        "wideLayout": True,
        "reduceOptions": {
            "calcs": ["lastNotNull"],
            "fields": "/^(?![Tt]ime$).*/" if is_text else "",
            "values": False,
        },
    }
    size = (width, settings.pop("height", 4))
    return panel(
        "stat",
        title,
        description,
        [query(text, alias="$col") for text in texts],
        size=size,
        options=options,
        **settings,
    )


def gauge(title: str, description: str, text: str, *, width: int, **settings: Any) -> Panel:
    """A part of a whole, in percent."""
    options = {
        "minVizHeight": 75,
        "minVizWidth": 75,
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showThresholdLabels": False,
        "showThresholdMarkers": True,
        "sizing": "auto",
    }
    limits = {"unit": "percent", "min": 0, "max": 100, "decimals": 0}
    return panel(
        "gauge",
        title,
        description,
        [query(text, alias="$col")],
        size=(width, 4),
        options=options,
        **limits,
        **settings,
    )


def chart(
    title: str,
    description: str,
    *queries: dict[str, Any],
    width: int = 12,
    stacked: bool = False,
    **settings: Any,
) -> Panel:
    """Lines over time."""
    custom = {
        "drawStyle": "line",
        "fillOpacity": 30 if stacked else 10,
        "lineWidth": 1,
        "showPoints": "auto",
        "spanNulls": 60_000,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    }
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    size = (width, 8)
    custom |= settings.pop("custom", {})
    return panel(
        "timeseries", title, description, queries, size=size, options=options, custom=custom, **settings
    )


def table(title: str, description: str, text: str, *, size: tuple[int, int], **settings: Any) -> Panel:
    """Rows, without the column of times."""
    options = {"cellHeight": "sm", "showHeader": True, "footer": {"show": False, "reducer": ["sum"]}}
    return panel(
        "table",
        title,
        description,
        [query(text, table=True)],
        size=size,
        options=options,
        transformations=[without_time()],
        custom={"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False},
        **settings,
    )


def without_time() -> dict[str, Any]:
    """Leaves the times out, whatever this version of Grafana calls their column."""
    return {"id": "organize", "options": {"excludeByName": {"Time": True, "time": True}}}


def named(field: str, **properties: Any) -> dict[str, Any]:
    """What holds for one field only; a name with a dot is written with ``__``."""
    return {
        "matcher": {"id": "byName", "options": field},
        "properties": [{"id": name.replace("__", "."), "value": value} for name, value in properties.items()],
    }


def colored(field: str, color: str) -> dict[str, Any]:
    """The same colour everywhere for the same thing."""
    return named(field, color={"mode": "fixed", "fixedColor": color})


def latest(*fields: str, where: str, measurement: str) -> str:
    """The newest value of each field, whenever it was."""
    selected = ", ".join(f'last("{field}") AS "{field}"' for field in fields)
    return f'SELECT {selected} FROM "{measurement}" WHERE {where}'


def course(*fields: str, measurement: str, where: str = "", by: str = "", how: str = "last") -> str:
    """Fields over the time range of the dashboard; ``by``: a tag that tells lines apart."""
    selected = ", ".join(f'{how}("{field}") AS "{field}"' for field in fields)
    condition = f"{where} AND $timeFilter" if where else "$timeFilter"
    group = f'time($__interval), "{by}"' if by else "time($__interval)"
    return f'SELECT {selected} FROM "{measurement}" WHERE {condition} GROUP BY {group} fill(none)'


JOB_COLORS = [
    colored("finished", GREEN),
    colored("failed", RED),
    colored("running", BLUE),
    colored("waiting", GREY),
    colored("cancelled", YELLOW),
]


def ensemble_panels() -> Iterator[Panel]:
    """One ensemble: how far it is, how fast, what failed, what came out."""
    yield stat(
        "State",
        "submitting: more jobs come; running, done; cancelled; failed: none of its jobs can run. Behind it "
        "stands what is done before the first job can start, or what went wrong",
        latest("state_said", where=ONE, measurement=ENSEMBLE),
        width=24,
        height=3,
        is_text=True,
        color_mode="none",
    )
    yield gauge(
        "Done",
        "Jobs that have ended, well or not, of all jobs",
        latest("progress_percent", where=ONE, measurement=ENSEMBLE),
        width=5,
    )
    yield stat(
        "Jobs",
        "Each job is counted once: it waits, runs, or has ended in one of three ways",
        latest("finished", "failed", "running", "waiting", "cancelled", where=ONE, measurement=ENSEMBLE),
        width=11,
        overrides=JOB_COLORS,
        text_mode="value_and_name",
    )
    yield stat(
        "Time left",
        "At the speed of the last minute; 0 once all jobs have ended",
        latest("left_s", where=ONE, measurement=ENSEMBLE),
        width=4,
        unit="s",
        decimals=0,
        noValue=UNKNOWN,
    )
    yield stat(
        "Speed",
        "Jobs that end per second: the mean of the last minute",
        latest("jobs_per_s", where=ONE, measurement=ENSEMBLE),
        width=4,
        unit="suffix: jobs/s",
        decimals=1,
    )
    yield chart(
        "Jobs over time",
        "How many jobs have ended, run and wait",
        query(
            course("finished", "failed", "cancelled", "running", "waiting", measurement=ENSEMBLE, where=ONE),
            alias="$col",
        ),
        stacked=True,
        overrides=JOB_COLORS,
        min=0,
    )
    yield chart(
        "Throughput",
        "Jobs that end per second: each point is the mean of a minute",
        query(course("jobs_per_s", measurement=ENSEMBLE, where=ONE, how="mean"), alias="jobs per second"),
        unit="suffix: jobs/s",
        min=0,
    )
    yield table(
        "Failures by fingerprint",
        "Failures of the same kind at the same place in the code have the same fingerprint. "
        "`cloudburst failures` shows tracebacks and the jobs",
        'SELECT "jobs", "error" FROM (SELECT last("jobs") AS "jobs", last("error") AS "error" '
        f'FROM "{FAILURE}" WHERE {ONE} GROUP BY "fingerprint") WHERE "jobs" > 0 GROUP BY "fingerprint"',
        size=(12, 8),
        noValue=NONE_KNOWN,
        overrides=[
            named("fingerprint", custom__width=110),
            named("jobs", custom__width=90, color={"mode": "fixed", "fixedColor": RED}),
        ],
    )
    yield chart(
        "Failures over time",
        "Failed jobs by fingerprint; the 20 most frequent ones, and all others together",
        query(course("jobs", measurement=FAILURE, where=ONE, by="fingerprint"), alias="$tag_fingerprint"),
        stacked=True,
        noValue=NONE_KNOWN,
        min=0,
    )
    yield panel(
        "trend",
        "Returned: $field",
        "What each job returned, over its index. Of large ensembles each dot is the mean of neighbours: "
        "a picture has at most 2,000 dots. The field is chosen at the top",
        [
            query(
                f'SELECT mean("index") AS "index", mean("$field") AS "$field" FROM "{RESULT}" '
                f"WHERE {ONE} AND time >= $jobs_from AND time <= $jobs_to "
                "GROUP BY time($jobs_per_dot) fill(none)",
                table=True,
            )
        ],
        size=(16, 9),
        options={
            "xField": "index",
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "single", "sort": "none"},
        },
        custom={"drawStyle": "points", "pointSize": 4, "fillOpacity": 0},
        transformations=[without_time()],
    )
    yield stat(
        "Returned: $field, in numbers",
        "Of all jobs that finished so far; deviation and percentiles of 2,000 of them, chosen at random. "
        "Over a million results, exact percentiles take the database a quarter of a minute",
        'SELECT count("$field") AS "jobs", mean("$field") AS "mean", min("$field") AS "least", '
        f'max("$field") AS "most" FROM "{RESULT}" WHERE {ONE}',
        'SELECT stddev("value") AS "deviation", percentile("value", 5) AS "5 %", '
        f'median("value") AS "median", percentile("value", 95) AS "95 %" '
        f'FROM (SELECT sample("$field", 2000) AS "value" FROM "{RESULT}" WHERE {ONE})',
        width=8,
        height=9,
        unit="none",
        text_mode="value_and_name",
        color_mode="none",
    )


def stack_panels() -> Iterator[Panel]:
    """The machines and services."""
    yield stat(
        "Workers",
        "Workers that have reported themselves within a minute. Not known: nothing was measured then, so "
        "the observer does not run or does not reach the database",
        latest("workers", where="time > now() - 1m", measurement=QUEUE),
        width=3,
        steps=[(0, RED), (1, GREEN)],
        noValue=UNKNOWN,
    )
    yield stat(
        "Slots",
        "Jobs that run, and jobs that could run at a time",
        latest("slots_busy", "slots", where="time > now() - 1m", measurement=QUEUE),
        width=5,
        text_mode="value_and_name",
        overrides=[named("slots_busy", displayName="busy")],
    )
    yield stat(
        "Waiting",
        "Jobs in the queue; and how long ago the one was created that starts next",
        latest("waiting", "oldest_s", where="time > now() - 1m", measurement=QUEUE),
        width=5,
        text_mode="value_and_name",
        overrides=[named("waiting", displayName="jobs"), named("oldest_s", displayName="oldest", unit="s")],
    )
    yield stat(
        "Ensembles in progress",
        "Those that have jobs waiting or running",
        latest("ensembles", where="time > now() - 1m", measurement=QUEUE),
        width=3,
    )
    yield stat(
        "Lost",
        "In the time range: jobs whose worker was not heard of in time, which run again; and jobs that were "
        "set aside because they lost it each time",
        'SELECT spread("leases_lost") AS "run again", spread("jobs_set_aside") AS "set aside" '
        f'FROM "{QUEUE}" WHERE $timeFilter',
        width=4,
        steps=[(0, GREEN), (1, YELLOW)],
        text_mode="value_and_name",
        overrides=[
            named(
                "set aside",
                thresholds=thresholds([(0, GREEN), (1, RED)]),
            )
        ],
    )
    yield gauge(
        "Redis' memory",
        "When it is full, Redis takes no more jobs; those that it has go on",
        'SELECT 100 * last("memory_used_bytes") / last("memory_limit_bytes") AS "used" '
        f'FROM "{REDIS}" WHERE time > now() - 1m',
        width=2,
        steps=[(0, GREEN), (70, YELLOW), (80, RED)],
    )
    yield gauge(
        "Master's disk",
        "How full the disk of the queue is",
        f'SELECT 100 - 100 * last("free_bytes") / last("total_bytes") AS "used" FROM "{DISK}" '
        "WHERE time > now() - 1m",
        width=2,
        steps=[(0, GREEN), (75, YELLOW), (85, RED)],
    )
    yield chart(
        "Slots",
        "Jobs that run, of those that could. Free slots beside a long queue: workers install an environment, "
        "or are being drained",
        query(course("slots", "slots_busy", measurement=QUEUE), alias="$col"),
        overrides=[colored("slots", GREY), colored("slots_busy", BLUE)],
        min=0,
    )
    yield chart(
        "Queue",
        "Jobs that wait, of all ensembles and of clients of plain RQ",
        query(course("waiting", measurement=QUEUE), alias="waiting"),
        min=0,
    )
    yield chart(
        "CPU",
        "Of all CPUs of each node",
        query(course("cpu_percent", measurement=NODE, by="node", how="mean"), alias="$tag_node"),
        unit="percent",
        min=0,
        max=100,
    )
    yield chart(
        "Memory",
        "What is not available to further programs, of each node's memory",
        query(
            'SELECT 100 * mean("memory_used_bytes") / mean("memory_total_bytes") '
            f'FROM "{NODE}" WHERE $timeFilter GROUP BY time($__interval), "node" fill(none)',
            alias="$tag_node",
        ),
        unit="percent",
        min=0,
        max=100,
    )
    yield chart(
        "Jobs ended",
        "Per second, on each node",
        query(course("jobs_per_s", measurement=NODE, by="node", how="mean"), alias="$tag_node"),
        unit="suffix: jobs/s",
        stacked=True,
        min=0,
    )
    yield chart(
        "Lost leases",
        "Jobs whose worker was not heard of in time: a node or a worker died, or a network was away",
        query(
            'SELECT non_negative_difference(last("leases_lost")) AS "run again", '
            'non_negative_difference(last("jobs_set_aside")) AS "set aside" '
            f'FROM "{QUEUE}" WHERE $timeFilter GROUP BY time($__interval) fill(none)',
            alias="$col",
        ),
        custom={"drawStyle": "bars"},
        overrides=[colored("run again", YELLOW), colored("set aside", RED)],
        min=0,
    )
    yield chart(
        "Free disk",
        "Of each node's disk for environments, and of the master's for the queue",
        query(course("disk_free_bytes", measurement=NODE, by="node"), alias="$tag_node"),
        query(course("free_bytes", measurement=DISK), alias="queue"),
        unit="bytes",
        min=0,
    )
    yield chart(
        "Redis",
        "Memory in use and its limit, and the size of the file that survives a restart",
        query(
            course("memory_used_bytes", "memory_limit_bytes", "aof_bytes", measurement=REDIS), alias="$col"
        ),
        unit="bytes",
        overrides=[
            named("memory_used_bytes", displayName="memory"),
            named("memory_limit_bytes", displayName="limit", color={"mode": "fixed", "fixedColor": RED}),
            named("aof_bytes", displayName="append-only file"),
        ],
        min=0,
    )
    yield table(
        "Nodes",
        "The latest of each node that has reported in the time range",
        'SELECT last("slots_busy") AS "busy", last("slots") AS "slots", last("cpu_percent") AS "CPU", '
        'last("memory_used_bytes") AS "memory", last("disk_free_bytes") AS "free disk", '
        'last("environments_bytes") AS "environments" '
        f'FROM "{NODE}" WHERE $timeFilter GROUP BY "node"',
        size=(24, 8),
        overrides=[
            named("CPU", unit="percent", decimals=0),
            named("memory", unit="bytes"),
            named("free disk", unit="bytes"),
            named("environments", unit="bytes"),
        ],
    )


def variable(name: str, label: str, text: str, description: str, **settings: Any) -> dict[str, Any]:
    """A choice at the top of a dashboard, from what a query finds."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "description": description,
        "datasource": source(text),
        "definition": text,
        "query": {"query": text, "refId": "variable"},
        "refresh": 2,  # with each change of the time range, and with each refresh
        "regex": "",
        "sort": 0,
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        **settings,
    }


def ensemble_variables() -> list[dict[str, Any]]:
    """Which ensemble, which of the returned numbers, and how many jobs one dot stands for."""
    return [
        variable(
            "ensemble",
            "Ensemble",
            f'SELECT "id" FROM "{names.MEASUREMENT_BEGUN}" ORDER BY time DESC LIMIT 200',
            "The latest first",
        ),
        variable(
            "field",
            "Returned value",
            f'SHOW FIELD KEYS FROM "{RESULT}"',
            "A number that the function returned",
            regex="/^(?!index$).*/",
            sort=1,
        ),
        variable(
            "jobs_per_dot",
            "Jobs per dot",
            latest("jobs_per_dot", where=ONE, measurement=ENSEMBLE),
            "As a time: results lie a microsecond apart",
            hide=2,
        ),
        *(
            variable(
                name,
                label,
                latest(name, where=ONE, measurement=ENSEMBLE),
                "Without a span of time, the database would count the intervals of all centuries",
                hide=2,
            )
            for name, label in (("jobs_from", "First result"), ("jobs_to", "Last result"))
        ),
    ]


def placed(panels: Iterator[Panel]) -> list[Panel]:
    """Panels from left to right, top to bottom, numbered."""
    made, x, y, height = [], 0, 0, 0
    for number, one in enumerate(panels, 1):
        where = one["gridPos"]
        if x + where["w"] > COLUMNS:
            x, y, height = 0, y + height, 0
        made.append({"id": number} | one | {"gridPos": where | {"x": x, "y": y}})
        x, height = x + where["w"], max(height, where["h"])
    return made


def dashboard(
    uid: str,
    title: str,
    description: str,
    *,
    since: str,
    every: str,
    panels: Iterator[Panel],
    variables: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """A whole dashboard, as Grafana 11 stores it."""
    link = {"type": "dashboards", "tags": ["cloudburst"], "title": "CloudBurst", "asDropdown": False}
    more = {"icon": "external link", "includeVars": False, "keepTime": True, "targetBlank": False}
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["cloudburst"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": since, "to": "now"},
        "refresh": every,
        "timepicker": {},
        "templating": {"list": list(variables)},
        "annotations": {"list": []},
        "links": [link | more | {"tooltip": "", "url": ""}],
        "panels": placed(panels),
    }


def dashboards() -> dict[str, dict[str, Any]]:
    """All of them, by the name of their file."""
    return {
        "ensemble": dashboard(
            "cloudburst-ensemble",
            "Ensemble",
            "How far an ensemble is, how fast it goes, what failed, and what its jobs returned",
            since="now-1h",
            every="10s",  # results are read anew each time, all of them
            panels=ensemble_panels(),
            variables=ensemble_variables(),
        ),
        "stack": dashboard(
            "cloudburst-stack",
            "Stack",
            "Nodes, slots, the queue, and how much room there is left",
            since="now-3h",
            every="10s",
            panels=stack_panels(),
        ),
    }


def text(made: dict[str, Any]) -> str:
    """As it is kept in the file."""
    return json.dumps(made, indent=2) + "\n"


if __name__ == "__main__":
    for name, made in dashboards().items():
        (Path(__file__).parent / "dashboards" / f"{name}.json").write_text(text(made))
