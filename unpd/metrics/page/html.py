"""The status page as HTML, made from a snapshot: the numbers, tables and charts, whole
without a script. The script fetches the page again and takes over what has changed.

Called by :mod:`unpd.metrics.page.status_page`. Calls :mod:`unpd.metrics.page.tables`
and :mod:`unpd.metrics.page.charts`. Pure; raises nothing. Every text goes through
:func:`html.escape`, because names and reasons are not ours.
"""

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

from unpd.metrics.page import charts, tables
from unpd.metrics.page.snapshot import SILENT_S
from unpd.metrics.page.wording import span, time_of_day
from unpd.names import UNREADY_PHASES, MasterPhase
from unpd.wording import count_text, counted, facts, live_change_text, retired_text

Values = Mapping[str, Any]
WORDS = (
    ("generation", "Goes up by one at each reload; a child keeps the one that made it."),
    ("heartbeat", "The last sign of life of a process; each gives one a second."),
    ("zombies", "Children that are dead and not reaped: more than 0 for long is a fault."),
    ("denied networks", "Networks and addresses that operators and sensors keep out now."),
    ("would refuse", "Let in, because the reason to refuse it is only observed."),
    ("worker", "A child that serves many connections; worker default/0 is the first of its pool."),
    ("iterative", "A child that serves one connection after the other, of one service."),
    ("dispatcher, launcher", "Children that start a process or a program for each connection."),
    ("exporter", "The child that serves this page."),
    ("lame", "The daemon serves as before, and will stop soon."),
    ("draining", "It takes no new connection and waits for the end of the open ones."),
    ("sessions only", "The child has ended, and processes that it started serve on."),
    ("slot", "The place of a child; if a child dies, another one takes its place."),
    ("loop lag", "The longest turns of the loops of workers: how late they may serve."),
)
"""One sentence for each word that a stranger may not know."""


def document(values: Values) -> str:
    """The whole page."""
    return (
        f'<!doctype html>\n<html lang="en" data-version="{escape(values["version"])}">\n'
        '<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>unpd: {escape(state_words(values))}</title>\n"
        '<link rel="icon" href="data:,">\n<link rel="stylesheet" href="page.css">\n'
        '<script src="page.js" defer></script>\n</head>\n<body>\n'
        '<p id="lost" role="alert" hidden></p>\n'
        f"{_header(values)}\n<main>\n{_alerts(values)}\n{_charts(values)}\n"
        f"{tables.services(values['services'])}\n"
        f"{tables.children(values['children'], values['time'])}\n"
        f"{tables.events(values['events'], values['time'])}\n{_words(values)}\n"
        f"</main>\n{_footer()}\n</body>\n</html>\n"
    )


def state_words(values: Values) -> str:
    """What the daemon does for clients, then what it is doing itself."""
    if not values["answering"]:
        return "the main process does not answer"
    phase = values["phase"]
    if phase in UNREADY_PHASES:
        return str(phase)
    words = "not ready" if values["not_ready"] else "ready"
    if values["faults"]:
        words += ", degraded"
    return words if phase == MasterPhase.RUNNING else f"{words}, reloading ({phase})"


# --- the daemon -----------------------------------------------------------------------


def _header(values: Values) -> str:
    well = values["answering"] and not (values["not_ready"] or values["faults"])
    terms = (
        ("version", values["version"]),
        ("pid", str(values["pid"])),
        ("generation", count_text(values["generation"])),
        ("up", span(values["uptime_s"])),
        *facts(values),
        ("configuration", values["config"] or "built-in default"),
    )
    items = "".join(f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in terms)
    return (
        f'<header>\n<h1>unpd <span class="{"well" if well else "ill"}">'
        f"{escape(state_words(values))}</span></h1>\n<dl>{items}</dl>\n"
        f'<p class="as-of">As of <time>{values["time"]}</time>'
        ' <button id="pause" type="button" hidden>Pause</button></p>\n'
        "<noscript><p>Without JavaScript these numbers are those of the moment when the page was"
        " loaded: load it again for newer ones.</p></noscript>\n</header>"
    )


def _alerts(values: Values) -> str:
    """The faults, and how the last reload went. Both elements are always there: a
    screen reader speaks what comes into the first, and nothing below is moved.
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
        texts.append(f"{counted(more, 'more fault')}: see unpd status.")
    reload = values["last_reload"]
    if reload and reload["reason"]:
        ended = time_of_day(reload["ended_at"], values["time"])
        texts.append(f"The last reload, at {ended} UTC, was refused: {reload['reason']}")
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    notes = "".join(f"<p>{escape(text)}</p>" for text in _notes(values))
    return f'<div id="alerts" role="status"><ul>{items}</ul></div><div id="notes">{notes}</div>'


def _notes(values: Values) -> Iterator[str]:
    """What is no fault, and good to know."""
    reload = values["last_reload"]
    if reload and not reload["reason"]:
        ended = time_of_day(reload["ended_at"], values["time"])
        yield f"Last reload: {reload['result']} at {ended} UTC."
    for change in values["live_changes"]:
        yield f"Live change, not saved: {live_change_text(change)}."
    if more := values["live_changes_left_out"]:
        yield f"{counted(more, 'more live change')}: see unpd status."
    for retired in values["retired"]:
        ends_at = retired["drain_ends_at"]
        until = f"{time_of_day(ends_at, values['time'])} UTC" if ends_at else None
        yield f"Retired from {retired_text({**retired, 'drain_ends_at': until})}."


# --- charts ---------------------------------------------------------------------------


def _charts(values: Values) -> str:
    figures = "".join(_chart(each, values) for each in charts.CHARTS)
    return f'<section>\n<h2>Last ten minutes</h2>\n<div class="charts">{figures}</div>\n</section>'


def _key(line: int, label: str) -> str:
    """The sample of a line and its name, where a chart has several."""
    return f'<i class="k{line}"></i>{label} ' if label else ""


def _highest(column: Iterable[float | None]) -> float | None:
    return max((each for each in column if each is not None), default=None)


def _chart(chart: charts.Chart, values: Values) -> str:
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
    measured = any(highest is not None for _, _, highest in present)
    shown = chart.shown(top) if measured else "no measurement yet"
    lines = "".join(
        f'<path class="l{number}" d="{charts.path(history, name, top)}"/>'
        for number, (name, _) in enumerate(chart.lines)
    )
    return (
        f"<figure><figcaption><span>{chart.title}</span>{numbers}</figcaption>"
        f'<div class="plot"><span class="top" aria-hidden="true">{shown}</span>'
        f'<svg role="img" aria-label="{escape(f"{chart.title}: {spoken}")}"'
        f' viewBox="0 0 {charts.WIDTH} {charts.HEIGHT}" preserveAspectRatio="none">'
        f'<path class="grid" d="{charts.GRID}"/>{lines}</svg></div>'
        '<div class="axis" aria-hidden="true"><span>10 min ago</span><span>now</span></div>'
        "</figure>"
    )


# --- the rest -------------------------------------------------------------------------


def _words(values: Values) -> str:
    """What the words of the page mean, and which children serve which services."""
    served = [*WORDS]
    served += [
        (f"{escape(group['kind'])} {escape(group['pool'])}", escape(", ".join(group["services"])))
        for group in values["serving"]
    ]
    items = "".join(f"<div><dt>{word}</dt><dd>{text}</dd></div>" for word, text in served)
    return (
        "<details><summary>What the words mean, and which child serves what</summary>"
        f"<dl>{items}</dl></details>"
    )


def _footer() -> str:
    links = ("status.json", "metrics", "healthz", "readyz")
    return (
        '<footer><nav aria-label="Other pages">'
        + " ".join(f'<a href="{name}">{name}</a>' for name in links)
        + "</nav></footer>"
    )
