"""The live denials as text, for the file ``access.state_file``: one line of JSON each,
after a line with the version and their number.

Pure; :mod:`unpd.master.state_file` reads and writes the file. A line that holds no
denial is no error: :func:`restore` returns it, and takes all others. Times are seconds
since the epoch in the text, and those of the caller's clock in the list; ``epoch_s`` is
what to add to the latter.

Whatever the text is, it costs no more work than that of a full list, in which each line
is as long as it can be: of longer ones, of more lines, and of what follows
MAX_BAD_LINES bad ones, nothing is taken.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unpd.access.denials import Denial, DenialError, Denials, checked_reason
from unpd.access.network import Network
from unpd.names import MAX_DENIALS, NAME_RULE, is_name

VERSION = 1
BEGINNING = b'{"unpd_denials"'
"""How each file of ours begins, of any version."""
MAX_LINE_BYTES = 1024
"""More than the longest line has: a reason of 200 characters, each of four bytes."""
MAX_LINES = MAX_DENIALS + 1
MAX_BYTES = MAX_LINES * MAX_LINE_BYTES
"""More than the largest text has."""
MAX_BAD_LINES = 1000
MAX_UID = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line, from 1 on, that holds no denial. ``reason``: the end of a sentence about
    it.
    """

    number: int
    reason: str


def may_be_ours(content: bytes) -> bool:
    """Whether a file with this content, or one that begins with it, may be replaced: it
    has stored denials, or nothing.
    """
    return not content or content.startswith(BEGINNING)


class Storer:
    """Makes the text of a list. It keeps the lines, because to make all 65,536 takes
    0.5 s.
    """

    def __init__(self) -> None:
        self._lines: dict[int, tuple[Denial, str]] = {}  # by the identity of the denial
        self._epoch_s = 0.0

    def text(self, denials: Denials, epoch_s: float) -> str:
        """The text of the list as it is now."""
        if abs(epoch_s - self._epoch_s) > 1.0:  # the wall clock was set
            self._lines.clear()
            self._epoch_s = epoch_s
        before, self._lines = self._lines, {}
        for denial in denials:
            known = before.get(id(denial)) or (denial, _line(denial, epoch_s))
            self._lines[id(denial)] = known
        header = json.dumps({"unpd_denials": VERSION, "count": len(denials)})
        return "\n".join([header, *(line for _, line in self._lines.values()), ""])


def _line(denial: Denial, epoch_s: float) -> str:
    fields: dict[str, Any] = {
        "network": str(denial.network),
        "since": round(denial.since + epoch_s, 3),
        "until": None if denial.until is None else round(denial.until + epoch_s, 3),
        "reason": denial.reason,
    }
    by = {"service": denial.service} if denial.of_sensor else {"uid": denial.uid}
    return json.dumps(fields | by, ensure_ascii=False)


def restore(text: str, denials: Denials, now: float, epoch_s: float) -> list[BadLine]:
    """Add the denials of a text to a list, but for those that are over, and those of
    networks that are listed already. Return the lines that hold none.
    """
    first, *lines = text.removesuffix("\n").split("\n", MAX_LINES)
    bad: list[BadLine] = []
    found: list[tuple[int, Denial]] = []
    try:
        _check_header(_fields(first), len(lines))
    except DenialError as error:
        bad.append(BadLine(1, str(error)))
    for number, line in enumerate(lines, 2):
        try:
            if number > MAX_LINES:
                raise DenialError(f"more than {MAX_DENIALS} denials are no list of ours")
            found.append((number, _denial(_fields(line), now, epoch_s)))
        except (ValueError, DenialError) as error:
            bad.append(BadLine(number, str(error)))
        if len(bad) == MAX_BAD_LINES:
            break
    # In the order of their networks, each goes to the end of the lists of numbers.
    for number, denial in sorted(found, key=lambda each: each[1].network):
        if (denial.until is None or denial.until > now) and not denials.find(denial.network):
            try:
                denials.add(denial)
            except DenialError as error:
                bad.append(BadLine(number, str(error)))
    return sorted(bad, key=lambda line: line.number)


def _fields(line: str) -> Mapping[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise DenialError(f"it is longer than {MAX_LINE_BYTES} bytes")
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        raise DenialError("it is no line of JSON") from None
    if not isinstance(fields, dict):
        raise DenialError("it is no JSON object")
    return fields


def _check_header(fields: Mapping[str, Any], count: int) -> None:
    if fields.get("unpd_denials") != VERSION:
        raise DenialError(f'it must begin with {{"unpd_denials": {VERSION}}}')
    if fields.get("count") != count:
        raise DenialError(f"it announces another number of denials than the {count} that follow")


def _denial(fields: Mapping[str, Any], now: float, epoch_s: float) -> Denial:
    """The denial of a line. DenialError, and ValueError for a part of it.

    One that has yet to begin was stored by another wall clock: it begins now, or a
    machine that starts in 1970 would deny for decades.
    """
    since, until = _time(fields, "since") - epoch_s, fields.get("until", "")
    ahead = max(0.0, since - now)
    service, uid = fields.get("service", ""), fields.get("uid")
    network, reason = fields.get("network"), fields.get("reason")
    if not (isinstance(network, str) and isinstance(reason, str) and isinstance(service, str)):
        raise DenialError("network, reason and service must be text")
    if not (uid is None or (type(uid) is int and 0 <= uid <= MAX_UID)):
        raise DenialError("uid must be the number of a user")
    if service and not is_name(service):
        raise DenialError(f"the name of a service {NAME_RULE}")
    if (uid is None) is not bool(service):
        raise DenialError("it must have either a uid or a service")
    return Denial(
        network=Network.parse(network),
        since=since - ahead,
        until=None if until is None else _time(fields, "until") - epoch_s - ahead,
        reason=checked_reason(reason),
        uid=uid,
        service=service,
    )


def _time(fields: Mapping[str, Any], name: str) -> float:
    value: Any = fields.get(name)
    if type(value) not in (int, float) or not 0 <= value < 1e11:
        raise DenialError(f"{name} must be a time in seconds since the epoch")
    return float(value)
