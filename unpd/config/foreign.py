"""What unpd has in place of the words of xinetd and of other daemons, for the advice
about an unknown key.

Owns the tables :data:`INSTEAD` and :data:`XINETD`. Called by unpd.config.build; the
manual page unpd.toml(5) has the second table. Calls and raises nothing.
"""

from collections.abc import Mapping
from types import MappingProxyType

_ADDRESS = 'address and port stand in listen, such as listen = ["tcp://[::]:7"]'
_TRANSPORT = (
    "each address in listen says it: streams come to tcp:// and unix://, datagrams to udp:// and"
    " unixgram://"
)
_SWITCH = "a service is switched off by deleting its table"
ACCOUNT = 'it belongs in [daemon]; only services of type "exec" and "python" have their own'
_PROGRAMS = 'a service of type "exec" has the key command'
_FORWARDS = 'the type of the service is "redirect", with the key to'
_ABSENT = "unpd has nothing like it"
_ALLOW = 'the key is allow, a list such as ["192.0.2.0/24", "uid:alice"]'
_DENY = "the key is deny, a list of the same forms as allow; what both match is refused"
LIMIT = (
    "the key is max_connections of a service; that of a worker is max_connections_per_worker in"
    " [pools.NAME]"
)
_TEXT = "with the text itself and not the name of a file"
PATH = (
    'a UNIX socket stands in listen, such as listen = ["unix:///run/unpd/echo.sock"]; the log file'
    ' is file in [log]; only services of type "python" have a path'
)
_WORKERS = "the key is workers in [pools.NAME]"
_LEVEL = "the key is level in [log]"
_FILE = "the key is file in [log]"
_INCLUDE = "unpd reads the files conf.d/NAME.toml beside the main file"
_TIMES = "the keys are idle_timeout_s, session_timeout_s and user_timeout_s in [services.NAME]"

XINETD: tuple[tuple[str, str], ...] = (
    ("banner", f"the keys are banner_refused and banner_accepted, {_TEXT}"),
    ("banner_fail", f'the key is banner_refused, {_TEXT}; at a limit with on_limit = "banner"'),
    ("banner_success", f"the key is banner_accepted, {_TEXT}"),
    ("bind interface port", _ADDRESS),
    (
        "cps",
        (
            'the key is accept_rate, such as "50/s" for "50 10"; the second number has no key: a'
            " rate never switches a service off"
        ),
    ),
    (
        "deny_time",
        'the key is deny_time_s of a service with type = "sensor", in seconds and not in minutes',
    ),
    ("per_source", "the key is max_per_source"),
    ("disable enabled", _SWITCH),
    (
        "env",
        (
            'a service of type "exec" has environment, a table such as { LANG = "C.UTF-8" };'
            " else set Environment= in the unit"
        ),
    ),
    ("passenv", 'the key is pass_environment of a service of type "exec", such as ["LANG"]'),
    (
        "flags",
        (
            'the keys are keepalive and ipv6_only; for SENSOR, type = "sensor"; NODELAY and REUSE'
            " are always on, and the path in command stands for the name of NAMEINARGS"
        ),
    ),
    ("id", "the name of the service is that of its table: [services.NAME]"),
    ("include includedir", _INCLUDE),
    ("instances", LIMIT),
    ("libwrap", f"{_ABSENT} as hosts.allow: the keys are allow and deny"),
    ("only_from", _ALLOW),
    ("no_access", _DENY),
    ("log_on_failure", "nothing to set: the log has each refusal with its reason"),
    ("log_on_success", "the key is connections in [log]"),
    ("log_type", f"{_FILE}; without it the log goes to standard error"),
    ("mdns rpc_number rpc_version", _ABSENT),
    ("protocol socket_type", _TRANSPORT),
    ("redirect", _FORWARDS),
    (
        "rlimit_as rlimit_cpu rlimit_files",
        (
            'a service of type "exec" has limits, with as_mb, cpu_s and nofile; else set it in the'
            " unit of systemd: Limit...="
        ),
    ),
    (
        "rlimit_data rlimit_rss rlimit_stack",
        f"{_ABSENT}: set it in the unit of systemd, for all programs together: Limit...=",
    ),
    ("server server_args", _PROGRAMS),
    ("v6only", "the key is ipv6_only"),
)
"""Every attribute in xinetd.conf(5) that unpd does not know under the same name, with
the advice for it.
"""
_OTHERS: tuple[tuple[str, str], ...] = (
    ("address addresses bind_address host hostname ip ports", _ADDRESS),
    ("allowed allow_from allowed_hosts hosts_allow whitelist", _ALLOW),
    ("blacklist blocked denied deny_from hosts_deny", _DENY),
    (
        "accept_proxy accept-proxy trusted_proxies",
        'the key is proxy_protocol, a list of load balancers such as ["10.0.0.9"]',
    ),
    ("rate_limit ratelimit", 'the key is accept_rate, such as "50/s"'),
    ("exec program", _PROGRAMS),
    ("limit max_clients maxclients maxconn", LIMIT),
    ("disabled enable on", _SWITCH),
    ("logfile log_file", _FILE),
    ("loglevel log_level debug verbose", _LEVEL),
    ("processes threads worker_processes", _WORKERS),
    ("permissions", "the key for a UNIX socket is socket_mode"),
    ("path", PATH),
    ("timeout", _TIMES),
)

INSTEAD: Mapping[str, str] = MappingProxyType(
    {word: advice for words, advice in (*XINETD, *_OTHERS) for word in words.split()}
)
"""The advice for each foreign word: the end of a sentence."""
