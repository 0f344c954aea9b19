"""The status page as HTML, made from a snapshot: the numbers, tables and charts, whole
without a script. The script fetches the page again and takes over what has changed.

Called by :mod:`unpd.metrics.page.status_page`. Pure; raises nothing. Every text goes
through :func:`html.escape`, because names and reasons are not ours.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from unpd.metrics.page import charts
from unpd.metrics.page.snapshot import SILENT_S
from unpd.metrics.page.wording import NOTHING, child_name, count, rate, short_time, size, span
from unpd.names import MasterPhase

Values = Mapping[str, Any]
EVENTS_SHOWN = 20


def document(values: Values) -> str:
    """The whole page."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>unpd: {escape(state_words(values))}</title>\n"
        '<link rel="icon" href="data:,">\n<link rel="stylesheet" href="page.css">\n'
        '<script src="page.js" defer></script>\n</head>\n<body>\n'
        '<p id="lost" role="alert" hidden></p>\n'
        f"{_header(values)}\n<main>\n{_alerts(values)}\n{_charts(values)}\n"
        f"{_services(values['services'])}\n{_children(values)}\n{_events(values['events'])}\n"
        f"</main>\n{_footer()}\n</body>\n</html>\n"
    )


def state_words(values: Values) -> str:
    """What the daemon does for clients, then what it is doing itself."""
    if not values["answering"]:
        return "the main process does not answer"
    phase = values["phase"]
    if phase in (MasterPhase.STARTING, MasterPhase.STOPPING):
        return str(phase)
    words = "not ready" if values["not_ready"] else "ready"
    if values["faults"]:
        words += ", degraded"
    return words if phase == MasterPhase.RUNNING else f"{words}, reloading ({phase})"


# --- the daemon -----------------------------------------------------------------------


def _header(values: Values) -> str:
    well = values["answering"] and not (values["not_ready"] or values["faults"])
    facts = (
        ("version", values["version"]),
        ("pid", str(values["pid"])),
        ("generation", count(values["generation"])),
        ("up", span(values["uptime_s"])),
        ("heartbeat", _ago(values["heartbeat_age_s"])),
        ("zombies", count(values["zombies"])),
        ("denials", count(values["denials"])),
        ("log lines lost", count(values["log_lines_dropped"])),
        ("configuration", values["config"] or "built-in default"),
    )
    items = "".join(f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in facts)
    return (
        f'<header>\n<h1>unpd <span class="{"well" if well else "ill"}">'
        f"{escape(state_words(values))}</span></h1>\n<dl>{items}</dl>\n"
        f'<p class="as-of">As of <time>{values["time"]}</time>'
        ' <button id="pause" type="button" aria-pressed="false" hidden>Pause</button></p>\n'
        "<noscript><p>Without JavaScript these numbers are those of the moment when the page was"
        " loaded: load it again for newer ones.</p></noscript>\n</header>"
    )


def _ago(age_s: float | None) -> str:
    return NOTHING if age_s is None else f"{span(age_s)} ago"


def _alerts(values: Values) -> str:
    """The faults, and how the last reload went. The element is always there, so that a
    screen reader speaks what comes into it.
    """
    texts = []
    if not values["answering"]:  # no age here: a screen reader would speak it each second
        texts.append(
            f"The main process has given no sign of life for more than {SILENT_S:.0f} seconds."
        )
    if values["not_ready"]:
        texts.append(f"Not ready: {values['not_ready']}.")
    texts += [f"Degraded ({each['reason']}): {each['text']}." for each in values["degraded"]]
    if (more := values["faults"] - len(values["degraded"])) > 0:
        texts.append(f"{more} more faults: see unpd status.")
    reload = values["last_reload"]
    if reload and reload["reason"]:
        texts.append(f"The last reload, at {reload['ended_at']}, was refused: {reload['reason']}")
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    done = ""
    if reload and not reload["reason"]:
        done = f"<p>Last reload: {reload['result']} at {reload['ended_at']}.</p>"
    return f'<div id="alerts" role="status"><ul>{items}</ul></div>{done}'


# --- charts ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart. ``lines``: lists of the history, and what each is called; without a
    name it is the only one. ``shown``: how a value is written.
    """

    title: str
    lines: tuple[tuple[str, str], ...]
    shown: Callable[[Any], str]


CHARTS = (
    Chart("Open connections", (("open", ""),), rate),
    Chart(
        "New per second",
        (("accepted_per_s", "connections"), ("datagrams_per_s", "datagrams")),
        rate,
    ),
    Chart("Bytes per second", (("received_per_s", "in"), ("sent_per_s", "out")), size),
    Chart("Waiting in accept queues", (("queued", ""),), rate),
    Chart("Refused per second", (("refused_per_s", ""),), rate),
    Chart("Round-trip time", (("rtt_s", ""),), short_time),
    Chart("Loop lag", (("lag_s", ""),), short_time),
)


def _charts(values: Values) -> str:
    figures = "".join(_chart(each, values) for each in CHARTS)
    return f'<section>\n<h2>Last ten minutes</h2>\n<div class="charts">{figures}</div>\n</section>'


def _key(line: int, label: str) -> str:
    """The sample of a line and its name, where a chart has several."""
    return f'<i class="k{line}"></i>{label} ' if label else ""


def _highest(column: Iterable[float | None]) -> float | None:
    return max((each for each in column if each is not None), default=None)


def _chart(chart: Chart, values: Values) -> str:
    history = values["history"]
    columns = [history[name] for name, _ in chart.lines]
    top = charts.top_of(*columns)
    present = [
        (label, values["totals"][name], _highest(history[name])) for name, label in chart.lines
    ]
    numbers = "".join(
        f"<span>{_key(at, label)}<b>{chart.shown(now)}</b></span>"
        for at, (label, now, _) in enumerate(present)
    )
    spoken = "; ".join(
        f"{label} now {chart.shown(now)}, highest {chart.shown(highest)}".strip()
        for label, now, highest in present
    )
    lines = "".join(
        f'<path class="l{number}" d="{charts.path(history, name, top)}"/>'
        for number, (name, _) in enumerate(chart.lines)
    )
    return (
        f"<figure><figcaption><span>{chart.title}</span>{numbers}</figcaption>"
        f'<div class="plot"><span class="top" aria-hidden="true">{chart.shown(top)}</span>'
        f'<svg role="img" aria-label="{escape(f"{chart.title}: {spoken}")}"'
        f' viewBox="0 0 {charts.WIDTH} {charts.HEIGHT}" preserveAspectRatio="none">'
        f'<path class="grid" d="{charts.GRID}"/>{lines}</svg></div></figure>'
    )


# --- tables ---------------------------------------------------------------------------


def _table(name: str, title: str, head: str, rows: Iterable[str], note: str = "") -> str:
    """A section with one table, which scrolls in its own box on a narrow screen."""
    return (
        f'<section>\n<h2 id="h-{name}">{title}</h2>\n'
        f'<div class="scroll" role="region" aria-labelledby="h-{name}" tabindex="0">'
        f'<table id="{name}"><caption>{note}</caption>\n<thead>{head}</thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>\n</section>"
    )


def _cells(*texts: str) -> str:
    return "".join(f"<td>{escape(text)}</td>" for text in texts)


def _heads(names: Iterable[str]) -> str:
    return "".join(f'<th scope="col">{name}</th>' for name in names)


def _services(services: Iterable[Values]) -> str:
    groups = (
        ("Connections", 3),
        ("Accept queue", 3),
        ("Accepted", 2),
        ("Refused", 2),
        ("Datagrams", 2),
        ("Bytes per second", 2),
    )
    head = (
        '<tr><th rowspan="2" scope="col">Service</th>'
        + "".join(f'<th colspan="{width}" scope="colgroup">{name}</th>' for name, width in groups)
        + "</tr>\n<tr>"
        + _heads(("now", "max", "limit") * 2 + ("per s", "total") * 3 + ("in", "out"))
        + "</tr>"
    )
    note = "Max is the highest sample of the last ten minutes, one a second."
    return _table("services", "Services", head, map(_service, services), note)


def _service(service: Values) -> str:
    listeners = "".join(
        f"<small>{escape(each['address'])}</small>" for each in service["listeners"]
    )
    unreachable = "" if service["reachable"] else ' <strong class="ill">unreachable</strong>'
    return (
        f'<tr><th scope="row">{escape(service["name"])}{unreachable}{listeners}</th>'
        + _limited(service, "open")
        + _limited(service, "queued")
        + _cells(rate(service["accepted_per_s"]), count(service["accepted"]))
        + _cells(rate(service["refused_per_s"]), count(service["refused"]))
        + _cells(rate(service["datagrams_per_s"]), count(service["datagrams"]))
        + _cells(size(service["received_per_s"]), size(service["sent_per_s"]))
        + "</tr>"
    )


def _limited(service: Values, name: str) -> str:
    """Three cells: now, maximum and limit. A maximum near the limit stands out."""
    now, highest, limit = (service[f"{name}{end}"] for end in ("", "_highest", "_limit"))
    if limit and highest >= limit * 0.9:
        return (
            f'{_cells(count(now))}<td><strong class="ill">{count(highest)}</strong></td>'
            f"{_cells(count(limit))}"
        )
    return _cells(count(now), count(highest), count(limit))


def _children(values: Values) -> str:
    head = (
        "<tr>"
        + _heads(
            (
                "Child",
                "State",
                "Pid",
                "Generation",
                "Age",
                "Open",
                "Heartbeat",
                "Last end in this slot",
            )
        )
        + "</tr>"
    )
    left_out = values["children_left_out"]
    note = "The processes that the main process started."
    if left_out:
        note += f" {count(left_out)} more are not shown: see unpd status."
    return _table("children", "Children", head, map(_child, values["children"]), note)


def _child(child: Values) -> str:
    place = child["service"] or f"{child['pool']}/{child['index']}"
    name = child_name(child["kind"], place)
    well = child["phase"] in ("ready", "starting")
    phase = child["phase"] if well else f'<strong class="ill">{escape(child["phase"])}</strong>'
    end = child["last_end"]
    ended = f"{end['ended']}, pid {end['pid']}, {end['at'][11:19]}" if end else NOTHING
    return (
        f'<tr><th scope="row">{escape(name)}</th><td>{phase}</td>'
        + _cells(
            NOTHING if child["pid"] is None else str(child["pid"]),
            count(child["generation"]),
            span(child["age_s"]),
            count(child["open"]),
            _ago(child["heartbeat_age_s"]),
            ended,
        )
        + "</tr>"
    )


def _events(events: list[Values]) -> str:
    head = "<tr>" + _heads(("Time (UTC)", "Event", "Details")) + "</tr>"
    rows = [
        f'<tr><td><time datetime="{each["at"]}">{each["at"][11:19]}</time></td>'
        f"<td>{escape(each['event'])}</td><td>{escape(each['text'])}</td></tr>"
        for each in events[:EVENTS_SHOWN]
    ]
    note = f"The last {EVENTS_SHOWN}, the newest first."
    return _table("events", "Events", head, rows, note)


def _footer() -> str:
    links = ("status.json", "metrics", "healthz", "readyz")
    return (
        '<footer><nav aria-label="Other pages">'
        + " ".join(f'<a href="{name}">{name}</a>' for name in links)
        + "</nav></footer>"
    )
