"""The form of the dashboards, by what Grafana publishes of it: the types of @grafana/schema 11.3.1.

Grafana itself cannot be had here. Of its types this has the part that the dashboards use: whatever else is
written into them is refused, so that a slip of the pen is no option that Grafana passes over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

GRAFANA = Path(__file__).resolve().parents[2] / "grafana"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in (GRAFANA / "dashboards").glob("*.json")}
PANELS = [
    pytest.param(panel, dashboard, id=f"{name}: {panel['title']}")
    for name, dashboard in sorted(DASHBOARDS.items())
    for panel in dashboard["panels"]
]

Shape = dict[str, Any]

SORTING = {"asc", "desc", "none"}
LEGEND: Shape = {
    "calcs": list,
    "displayMode": {"hidden", "list", "table"},
    "placement": {"bottom", "right"},
    "showLegend": bool,
}
TOOLTIP: Shape = {"mode": {"multi", "none", "single"}, "sort": SORTING}
SINGLE: Shape = {
    "orientation": {"auto", "horizontal", "vertical"},
    "reduceOptions": {"calcs": list, "fields": str, "values": bool},
}
GRAPH: Shape = {
    "drawStyle": {"bars", "line", "points"},
    "fillOpacity": int,
    "lineWidth?": int,
    "pointSize?": int,
    "showPoints?": {"always", "auto", "never"},
    "spanNulls?": (bool, int),
    "stacking?": {"group": str, "mode": {"none", "normal", "percent"}},
}
"""GraphFieldConfig."""

OPTIONS: dict[str, Shape] = {
    "stat": SINGLE
    | {
        "colorMode": {"background", "background_solid", "none", "value"},
        "graphMode": {"area", "line", "none"},
        "justifyMode": {"auto", "center"},
        "percentChangeColorMode": {"inverted", "same_as_value", "standard"},
        "showPercentChange": bool,
        "textMode": {"auto", "name", "none", "value", "value_and_name"},
        "wideLayout": bool,
    },
    "gauge": SINGLE
    | {
        "minVizHeight": int,
        "minVizWidth": int,
        "showThresholdLabels": bool,
        "showThresholdMarkers": bool,
        "sizing": {"auto", "manual"},
    },
    "table": {
        "cellHeight": {"auto", "lg", "md", "sm"},
        "footer": {"reducer": list, "show": bool},
        "showHeader": bool,
    },
    "timeseries": {"legend": LEGEND, "tooltip": TOOLTIP},
    "trend": {"legend": LEGEND, "tooltip": TOOLTIP, "xField": str},
}
CUSTOM: dict[str, Shape] = {
    "stat": {},
    "gauge": {},
    "table": {
        "align": {"auto", "left", "right", "center"},
        "cellOptions": {"type": {"auto"}},
        "inspect": bool,
    },
    "timeseries": GRAPH,
    "trend": GRAPH,
}
THRESHOLDS: Shape = {"mode": {"absolute", "percentage"}, "steps": list}
DEFAULTS: Shape = {
    "unit": str,
    "noValue": str,
    "thresholds": THRESHOLDS,
    "min?": int,
    "max?": int,
    "decimals?": int,
    "custom?": dict,
}
OVERRIDES: Shape = {
    "unit": str,
    "decimals": int,
    "displayName": str,
    "color": {"mode": {"fixed"}, "fixedColor": str},
    "thresholds": THRESHOLDS,
    "custom.width": int,
}
COLOURS = {"green", "yellow", "red", "blue", "text"}
UNITS = {"short", "none", "s", "bytes", "percent"}
"""Of @grafana/data's valueFormats; others begin with ``suffix:``."""


def wrong(what: Any, shape: Any, place: str) -> Iterator[str]:
    """What does not fit: a shape is a dict by keys (``?``: may be missing), a type, or a set of values."""
    if isinstance(shape, dict):
        keys = {key.rstrip("?") for key in shape}
        for key in what.keys() ^ keys:
            if key not in keys or f"{key}?" not in shape:
                yield f"{place}: {key} is {'missing' if key in keys else 'unknown'}"
        for key, value in what.items():
            if key in keys:
                yield from wrong(value, shape.get(key, shape.get(f"{key}?")), f"{place}.{key}")
    elif isinstance(shape, set):
        if what not in shape:
            yield f"{place}: {what!r} is none of {sorted(shape)}"
    elif not isinstance(what, shape) or (isinstance(what, bool) and shape is int):
        yield f"{place}: {what!r}"


def test_the_check_finds_what_is_wrong() -> None:
    assert list(wrong({"mode": "several", "sort": "none"}, TOOLTIP, "t"))
    assert list(wrong({"mode": "multi"}, TOOLTIP, "t")) == ["t: sort is missing"]
    assert list(wrong({"mode": "multi", "sort": "none", "order": 1}, TOOLTIP, "t")) == ["t: order is unknown"]
    assert list(wrong({"value": True}, {"value": int}, "t"))


@pytest.mark.parametrize(("panel", "dashboard"), PANELS)
def test_a_panel_has_the_options_that_its_kind_has_and_no_others(panel: Any, dashboard: Any) -> None:
    kind, fields = panel["type"], panel["fieldConfig"]
    defaults = fields["defaults"]

    assert not list(wrong(panel["options"], OPTIONS[kind], "options"))
    assert not list(wrong(defaults, DEFAULTS, "defaults"))
    assert not list(wrong(defaults.get("custom", {}), CUSTOM[kind], "custom"))
    for override in fields["overrides"]:
        said = {each["id"]: each["value"] for each in override["properties"]}
        optional = {f"{name}?": shape for name, shape in OVERRIDES.items()}
        assert not list(wrong(said, optional, str(override["matcher"])))
        assert override["matcher"].keys() == {"id", "options"}
    units = [defaults["unit"], *found(fields["overrides"], "unit")]
    assert all(unit in UNITS or unit.startswith("suffix:") for unit in units)


@pytest.mark.parametrize(("panel", "dashboard"), PANELS)
def test_colours_have_names_and_steps_go_up(panel: Any, dashboard: Any) -> None:
    fields = panel["fieldConfig"]
    scales = [fields["defaults"]["thresholds"], *found(fields["overrides"], "thresholds")]

    for scale in scales:
        values = [step["value"] for step in scale["steps"]]
        assert values[0] is None
        assert values[1:] == sorted(values[1:])
        assert {step["color"] for step in scale["steps"]} <= COLOURS
    assert {colour["fixedColor"] for colour in found(fields["overrides"], "color")} <= COLOURS


@pytest.mark.parametrize(("panel", "dashboard"), PANELS)
def test_what_stands_where_nothing_was_found_is_true_where_the_query_has_failed(
    panel: Any, dashboard: Any
) -> None:
    fields = panel["fieldConfig"]

    assert fields["defaults"]["noValue"] in {"no data", "not known", "none known"}
    for scale in [fields["defaults"]["thresholds"], *found(fields["overrides"], "thresholds")]:
        first, second = scale["steps"][:2]
        assert first == {"value": None, "color": "text"}, "neither well nor ill"
        assert second["value"] == 0


@pytest.mark.parametrize(("panel", "dashboard"), PANELS)
def test_what_is_said_of_a_column_is_said_of_one_that_a_query_gives(panel: Any, dashboard: Any) -> None:
    columns = set()
    for target in panel["targets"]:
        columns.update(re.findall(r'AS "([^"]+)"', target["query"]))
        for tags in re.findall(r"GROUP BY (.*)", target["query"]):
            columns.update(re.findall(r'"([^"]+)"', tags))

    for override in panel["fieldConfig"]["overrides"]:
        assert override["matcher"]["id"] == "byName"
        assert override["matcher"]["options"] in columns
    for transformation in panel["transformations"]:
        assert transformation["id"] == "organize"
    if panel["type"] == "trend":
        assert panel["options"]["xField"] in columns


@pytest.mark.parametrize(("panel", "dashboard"), PANELS)
def test_every_variable_is_one_of_its_dashboard_or_grafanas_own(panel: Any, dashboard: Any) -> None:
    known = {variable["name"] for variable in dashboard["templating"]["list"]}
    queries = " ".join(target["query"] for target in panel["targets"])

    assert set(re.findall(r"\$\{?(\w+)", queries)) <= known | {"timeFilter", "__interval"}
    assert set(re.findall(r"\$\{?(\w+)", f"{panel['title']} {panel['description']}")) <= known
    for target in panel["targets"]:
        tags = {f"tag_{tag}" for tag in re.findall(r'GROUP BY.*?"(\w+)"', target["query"])}
        assert set(re.findall(r"\$(\w+)", target.get("alias", ""))) <= tags | {"col"} | known


def test_variables_are_asked_of_the_stacks_database_and_need_only_those_before_them() -> None:
    for dashboard in DASHBOARDS.values():
        before: set[str] = set()
        for variable in dashboard["templating"]["list"]:
            assert variable["type"] == "query"
            uid = "cloudburst" if variable["name"] == "field" else "cloudburst-stack"
            assert variable["datasource"] == {"type": "influxdb", "uid": uid}
            assert set(re.findall(r"\$(\w+)", variable["query"]["query"])) <= before
            before.add(variable["name"])


def found(overrides: Any, name: str) -> list[Any]:
    return [each["value"] for one in overrides for each in one["properties"] if each["id"] == name]
