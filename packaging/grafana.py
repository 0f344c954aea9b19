"""The form of a dashboard for Grafana: JSON of the panels that dashboard.py lists.

A panel names metrics, and labels by which their series differ. The row of a metric in
the catalogue gives the rest: a counter is shown as a rate and a histogram as quantiles,
the unit follows from the name, and the help is the description of the panel. Called by
dashboard.py. Errors: KeyError if a panel names a metric or a label that the catalogue
lacks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from unpd.metrics.catalog.row import Counter, Gauge, Histogram, Metric
from unpd.metrics.catalog.table import METRICS

SCHEMA = 39
"""The version of the format: of Grafana 10.3. Older ones read it, newer ones renew it
when they load it.
"""
WIDTH = 24
CATALOG = {row.name: row for row in METRICS}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
RATE = "$__rate_interval"
QUANTILES = (0.5, 0.95, 0.99)

Json = dict[str, Any]
Steps = tuple[tuple[float, str], ...]

PLAIN: Steps = ((0, "text"),)


@dataclass(frozen=True, slots=True)
class Query:
    """What one query of a panel shows. ``by``: the labels that tell its series apart.
    ``name``: the legend before them. ``expr``: for what is more than one metric; then
    ``metric`` is "". ``dashed``: a limit.
    """

    metric: str
    by: tuple[str, ...] = ()
    name: str = ""
    expr: str = ""
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. ``kind``: its type in Grafana. ``unit``: "" for the one that follows
    from the first metric. ``words``: what stands for some values.
    """

    title: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    width: int = 8
    unit: str = ""
    steps: Steps = PLAIN
    stacked: bool = False
    words: tuple[tuple[str, str], ...] = ()
    description: str = ""


def selected(name: str) -> str:
    """A metric of the chosen instances, and of the chosen services if it has some."""
    labels = CATALOG[name].labels
    own = ['service=~"$service"'] if "service" in labels else []
    chosen = ", ".join(['instance=~"$instance"', *own])
    return f"{name}{{{chosen}}}"


# --- queries --------------------------------------------------------------------------


def expressions(query: Query) -> Iterator[tuple[str, str]]:
    """Each expression of a query, with its legend."""
    legend = " ".join([*filter(None, [query.name]), *(f"{{{{{label}}}}}" for label in query.by)])
    if query.expr:
        yield query.expr, legend
        return
    row = CATALOG[query.metric]
    for label in query.by:
        if label not in (*row.labels, "instance"):
            raise KeyError(f"{row.name} has no label {label}")
    if isinstance(row, Histogram):
        of = ", ".join(("le", *query.by))
        buckets = f"sum by ({of}) (rate({selected_buckets(row)}[{RATE}]))"
        for quantile in QUANTILES:
            text = f"histogram_quantile({quantile}, {buckets})"
            yield text, " ".join(filter(None, [f"p{quantile * 100:g}", legend]))
        return
    value = selected(row.name)
    value = f"rate({value}[{RATE}])" if isinstance(row, Counter) else value
    # Ages and sizes of several instances do not add up, counts and rates do.
    how = "max" if isinstance(row, Gauge) and unit_of(row) != "short" else "sum"
    grouped = f"{how} by ({', '.join(query.by)}) ({value})" if query.by else f"{how}({value})"
    yield grouped, legend or row.name


def selected_buckets(row: Metric) -> str:
    """The buckets of a histogram, of the chosen instances and services."""
    return selected(row.name).replace(row.name, f"{row.name}_bucket", 1)


def unit_of(row: Metric) -> str:
    """The unit of what a panel shows of a metric."""
    counter = isinstance(row, Counter)
    name = row.name.removesuffix("_total")
    if name.endswith("_bytes"):
        return "Bps" if counter else "bytes"
    if name.endswith("_seconds"):
        return "percentunit" if counter else "s"  # seconds of a processor, each second
    if name.endswith("_ratio"):
        return "percentunit"
    return "suffix: /s" if counter else "short"


# --- the form of Grafana --------------------------------------------------------------


def panel_json(panel: Panel, number: int, place: Json) -> Json:
    """A panel as Grafana reads it."""
    first = CATALOG.get(panel.queries[0].metric)
    made = [pair for query in panel.queries for pair in expressions(query)]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description or " ".join(helps(panel)),
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": defaults(panel, panel.unit or (unit_of(first) if first else "short")),
            "overrides": [
                *(dashes(query) for query in panel.queries if query.dashed),
                *([SINCE] if panel.kind == "table" else []),
            ],
        },
        "options": OPTIONS[panel.kind],
        **({"transformations": TABLE} if panel.kind == "table" else {}),
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": expr,
                "legendFormat": legend or "__auto",
                **({"instant": True, "format": "table"} if panel.kind == "table" else {}),
            }
            for index, (expr, legend) in enumerate(made)
        ],
    }


def helps(panel: Panel) -> Iterator[str]:
    """The helps of the metrics of a panel."""
    for query in panel.queries:
        yield CATALOG[query.metric].help


def defaults(panel: Panel, unit: str) -> Json:
    """The settings that all series of a panel share."""
    custom: Json = {}
    if panel.kind == "timeseries":
        custom = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 30 if panel.stacked else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        }
    steps = [
        {"color": color, "value": None if index == 0 else value}
        for index, (value, color) in enumerate(panel.steps)
    ]
    texts = {
        value: {"text": text, "index": index} for index, (value, text) in enumerate(panel.words)
    }
    return {
        "unit": unit,
        **({"min": 0} if panel.kind == "timeseries" else {}),
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "thresholds": {"mode": "absolute", "steps": steps},
        "mappings": [{"type": "value", "options": texts}] if texts else [],
        "custom": custom,
    }


def dashes(query: Query) -> Json:
    """How the series of a limit look."""
    return {
        "matcher": {"id": "byRegexp", "options": f"/^{query.name}/"},
        "properties": [
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}},
            {"id": "custom.fillOpacity", "value": 0},
        ],
    }


OPTIONS: dict[str, Json] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    },
    "state-timeline": {
        "mergeValues": True,
        "showValue": "never",
        "rowHeight": 0.8,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
        "tooltip": {"mode": "single", "sort": "none"},
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
}
TABLE: list[Json] = [
    {"id": "joinByField", "options": {"byField": "instance", "mode": "outer"}},
    {
        "id": "filterFieldsByName",
        "options": {
            "include": {"names": ["instance", "version", "python", "Value #B", "Value #C"]}
        },
    },
    {
        "id": "organize",
        "options": {
            "renameByName": {"Value #B": "generation", "Value #C": "last good reload"},
            "excludeByName": {},
            "indexByName": {},
        },
    },
]


SINCE: Json = {
    "matcher": {"id": "byName", "options": "last good reload"},
    "properties": [{"id": "unit", "value": "dateTimeFromNow"}],
}


def panels(sections: Sequence[tuple[str, Sequence[Panel]]]) -> Iterator[Json]:
    """Every panel at its place, after the line of its section."""
    top, number = 0, 0
    for title, section in sections:
        if title:
            number += 1
            place = {"h": 1, "w": WIDTH, "x": 0, "y": top}
            line = {"type": "row", "title": title, "collapsed": False, "panels": []}
            yield {"id": number, "gridPos": place, **line}
            top += 1
        left = height = 0
        for panel in section:
            height = 4 if panel.kind == "stat" else 8
            if left + panel.width > WIDTH:
                left, top = 0, top + height
            number += 1
            place = {"h": height, "w": panel.width, "x": left, "y": top}
            yield panel_json(panel, number, place)
            left += panel.width
        top += height


def variable(name: str, label: str, query: str) -> Json:
    """A variable whose values are those of a label."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"Variable-{name}"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
        "regex": "",
        "hide": 0,
    }


def annotation(name: str, color: str, expr: str) -> Json:
    """A mark on every panel at the times at which something happened."""
    return {
        "name": name,
        "datasource": SOURCE,
        "enable": True,
        "iconColor": color,
        "expr": expr,
        "step": "60s",
        "titleFormat": name,
        "textFormat": "{{instance}}",
    }


def dashboard(sections: Sequence[tuple[str, Sequence[Panel]]]) -> Json:
    """The dashboard as Grafana imports it."""
    service = 'label_values(unpd_connections_accepted_total{instance=~"$instance"}, service)'
    return {
        "uid": "unpd",
        "title": "unpd",
        "description": "Made by packaging/dashboard.py from the metrics of unpd.",
        "tags": ["unpd"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {
            "list": [
                annotation("Reload", "blue", f"changes({selected('unpd_generation')}[1m]) > 0"),
                annotation(
                    "Restart", "red", f"changes({selected('unpd_start_time_seconds')}[1m]) > 0"
                ),
            ]
        },
        "templating": {
            "list": [
                {
                    "type": "datasource",
                    "name": "datasource",
                    "label": "Prometheus",
                    "query": "prometheus",
                    "current": {},
                    "options": [],
                    "refresh": 1,
                    "regex": "",
                    "hide": 0,
                },
                variable("instance", "Instance", "label_values(unpd_build_info, instance)"),
                variable("service", "Service", service),
            ]
        },
        "panels": list(panels(sections)),
    }
