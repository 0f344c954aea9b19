"""The keys of access: who may use a service, how much of it, and what the others get.

:class:`AccessKeys` has those that a service and ``[defaults]`` may have, and
:class:`Access` the table ``[access]``. The modules of unpd.access parse the values
here, so that a bad one is an error of the configuration. Whether the keys fit together,
:mod:`unpd.config.refusals` checks.

An empty text, list or table and a 0 mean no limit: so a service lifts a limit of
``[defaults]``.

Used by :mod:`unpd.config.schema`. Calls unpd.access, unpd.config.access_lists, and
unpd.services.daytime for the time zones. Validators raise ValueError with one sentence,
which pydantic collects.
"""

import re
from typing import Annotated, Any, Literal

from unpd.access.rate import FORMS as RATE_FORMS
from unpd.access.rate import Rate
from unpd.access.rules import Entry
from unpd.access.terms import AccessTerms, OnLimit
from unpd.access.times import AccessTimes
from unpd.config.access_lists import EXAMPLE, AccessList, KeyOrigins, access_list, list_of
from unpd.config.addresses import refuse_path
from unpd.config.section import Section, array_of
from unpd.config.wording import quoted_list
from unpd.config.writing import key_shown
from unpd.errors import quoted
from unpd.libraries import AfterValidator, BeforeValidator, Field, ValidationError
from unpd.names import ORDERED, RefusalReason, Resource
from unpd.services.base import UnknownNameError
from unpd.services.daytime import zone

MAX_BANNER_BYTES = 4096
MAX_ACCESS_TIMES = 64
MAX_LOAD = 10_000
MAX_PER_SOURCE = 1_000_000
MAX_PER_CENT = 100
PRESSURE = (
    "a table such as { cpu = 80, memory = 20 }, with per cents from 0 (no limit) to"
    f" {MAX_PER_CENT} of cpu, memory and io"
)
MODES = '"enforce" or "observe"'
OBSERVABLE = tuple(reason for reason in RefusalReason if reason not in ORDERED)
"""The reasons of a refusal that are keys of a service."""


class MaxPressure(Section):
    """How long processes may wait for a resource: the share of the last 10 seconds in
    which some did, in per cent (``some avg10`` of ``/proc/pressure``); 0 for no limit.
    """

    cpu: float = Field(0.0, ge=0, le=MAX_PER_CENT)
    memory: float = Field(0.0, ge=0, le=MAX_PER_CENT)
    io: float = Field(0.0, ge=0, le=MAX_PER_CENT)


def _pressure(value: Any) -> Any:
    if isinstance(value, MaxPressure):
        return value
    try:
        return MaxPressure.model_validate(value)
    except ValidationError as failure:
        raise ValueError(f"must be {PRESSURE}{_wrong_key(failure)}") from None


def _wrong_key(failure: ValidationError) -> str:
    """The end of a sentence about a table: its first key that is wrong."""
    detail = failure.errors(include_url=False, include_input=False)[0]
    if not detail["loc"]:
        return ""
    key = quoted(str(detail["loc"][0]))
    known = detail["type"] != "extra_forbidden"
    return f": {key} {'has another value' if known else 'is none of these'}"


def _rate(text: str) -> str:
    if text:
        Rate.parse(text)
    return text


def _range_of_times(text: str) -> str:
    AccessTimes.parse([text], None)
    return text


def _zone(name: str) -> str:
    zone(name)
    return name


def _mode(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"[0-7]{3,4}", value):
        raise ValueError(f"must be {MODES}; the mode of a UNIX socket is socket_mode")
    return value


def _observable(word: str) -> str:
    if word not in OBSERVABLE:
        raise UnknownNameError(
            f"no key {quoted(word)} refuses clients",
            word,
            lambda: OBSERVABLE,
            f"known are {quoted_list(OBSERVABLE)}",
        )
    return word


def _banner(text: str) -> str:
    if (size := len(text.encode())) > MAX_BANNER_BYTES:
        raise ValueError(f"has {size} bytes, but may have at most {MAX_BANNER_BYTES}")
    return text


def _optional_path(text: str) -> str:
    if text:
        refuse_path(text)
    return text


RateText = Annotated[str, AfterValidator(_rate)]
Banner = Annotated[str, AfterValidator(_banner)]


class AccessKeys(Section):
    """The keys about access of a service.

    ``proxy_protocol``: the load balancers that tell who the client is; it refuses
    nobody. ``allow``: an empty one refuses nobody. ``max_per_source``: connections of
    one source, which is a prefix of ``source_prefix_v4`` or ``source_prefix_v6`` bits.
    The two rates are of connections and datagrams, of all sources and of one.
    ``on_limit``: None for "queue" where that is possible, else "refuse". ``observe``:
    the keys that only count what they would refuse; with ``mode = "observe"`` all of
    them, and a sensor denies nobody. A live denial always refuses.
    """

    proxy_protocol: Annotated[AccessList, BeforeValidator(access_list)] = Field(
        AccessList(), description=EXAMPLE
    )
    allow: Annotated[AccessList, BeforeValidator(access_list)] = Field(
        AccessList(), description=EXAMPLE
    )
    deny: Annotated[AccessList, BeforeValidator(access_list)] = Field(
        AccessList(), description=EXAMPLE
    )
    max_per_source: int = Field(
        0,
        ge=0,
        le=MAX_PER_SOURCE,
        description=f"a whole number from 0 (no limit) to {MAX_PER_SOURCE}",
    )
    source_prefix_v4: int = Field(32, ge=1, le=32, description="a whole number from 1 to 32")
    source_prefix_v6: int = Field(64, ge=1, le=128, description="a whole number from 1 to 128")
    accept_rate: RateText = Field("", description=f'a rate such as {RATE_FORMS}, or "" for none')
    accept_rate_per_source: RateText = Field(
        "", description=f'a rate such as {RATE_FORMS}, or "" for none'
    )
    access_times: Annotated[
        tuple[Annotated[str, AfterValidator(_range_of_times)], ...],
        BeforeValidator(array_of(MAX_ACCESS_TIMES)),
    ] = Field(
        (),
        max_length=MAX_ACCESS_TIMES,
        description=f"a list of at most {MAX_ACCESS_TIMES} ranges of times, such as"
        ' ["Mon-Fri 08:00-18:00"]',
    )
    times_zone: Annotated[str, AfterValidator(_zone)] = Field(
        "local", description='"local", "UTC" or an IANA name such as "Europe/Berlin"'
    )
    max_pressure: Annotated[MaxPressure, BeforeValidator(_pressure)] = Field(
        MaxPressure(), description=PRESSURE
    )
    max_load: float = Field(
        0.0, ge=0, le=MAX_LOAD, description=f"a number from 0 (no limit) to {MAX_LOAD}"
    )
    on_limit: Literal["queue", "refuse", "banner"] | None = Field(
        None, description='"queue", "refuse" or "banner"'
    )
    banner_refused: Banner = Field(
        "", description=f"a text of at most {MAX_BANNER_BYTES} bytes in UTF-8"
    )
    banner_accepted: Banner = Field(
        "", description=f"a text of at most {MAX_BANNER_BYTES} bytes in UTF-8"
    )
    mode: Annotated[Literal["enforce", "observe"], BeforeValidator(_mode)] = Field(
        "enforce", description=MODES
    )
    observe: Annotated[
        tuple[Annotated[str, AfterValidator(_observable)], ...],
        BeforeValidator(array_of(len(OBSERVABLE))),
    ] = Field(
        (),
        max_length=len(OBSERVABLE),
        description='a list of keys that refuse clients, such as ["max_per_source"]',
    )

    def terms(
        self, max_connections: int, never_deny: AccessList, origins: KeyOrigins
    ) -> AccessTerms:
        """The terms of a service with these keys, in one record."""
        rates = (self.accept_rate, self.accept_rate_per_source)
        of_all, of_each = (Rate.parse(text) if text else None for text in rates)
        times = self.access_times
        return AccessTerms(
            deny=self.deny.rules,
            allow=self.allow.rules,
            access_times=AccessTimes.parse(times, zone(self.times_zone)) if times else None,
            max_pressure=tuple(
                (resource, limit)
                for resource in Resource
                if (limit := getattr(self.max_pressure, resource))
            ),
            max_load=self.max_load,
            max_connections=max_connections,
            max_per_source=self.max_per_source,
            source_prefix_v4=self.source_prefix_v4,
            source_prefix_v6=self.source_prefix_v6,
            accept_rate=of_all,
            accept_rate_per_source=of_each,
            on_limit=OnLimit(self.on_limit or OnLimit.QUEUE),
            banner_refused=self.banner_refused.encode(),
            banner_accepted=self.banner_accepted.encode(),
            observe=frozenset(
                OBSERVABLE if self.mode == "observe" else map(RefusalReason, self.observe)
            ),
            sensor_observes=self.mode == "observe",
            never_deny=never_deny.rules,
            proxies=self.proxy_protocol.rules,
            keys={
                RefusalReason(key): Entry(key_shown(key, getattr(self, key)), origin)
                for key, origin in origins.by_key.items()
            },
        )


class Access(Section):
    """The table ``[access]``. ``state_file``: where live denials outlast the master; ""
    for nowhere. ``never_deny``: the sources that no sensor denies.
    """

    state_file: Annotated[str, AfterValidator(_optional_path)] = Field(
        "", description='an absolute path, or "" for none'
    )
    never_deny: Annotated[AccessList, BeforeValidator(access_list)] = Field(
        list_of("loopback"), description=EXAMPLE
    )
