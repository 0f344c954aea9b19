"""Services of type python: the keys that exec has not."""

from collections.abc import Callable

import pytest

from unpd.config.load import Loaded
from unpd.config.plan import effective
from unpd.config.schema import DEFAULT_PROGRAMS
from unpd.services.function import FunctionOptions

Accept = Callable[[str], Loaded]
Refuse = Callable[[str], list[str]]

HEAD = '[services.x]\ntype = "python"\nlisten = ["tcp://[::]:10078"]\n'
FUNCTION = HEAD + 'handler = "package.module:function"\n'
HANDLER = 'must be a module and a function, such as "package.module:function"'
BAD = [
    ("handler = 7", "handler", HANDLER),
    ('handler = "module"', "handler", HANDLER),
    ('handler = "module:"', "handler", HANDLER),
    ('handler = ":function"', "handler", HANDLER),
    ('handler = "package..module:function"', "handler", HANDLER),
    ('handler = "/opt/module.py:function"', "handler", HANDLER),
    ('handler = "module:function()"', "handler", HANDLER),
    ('handler = "module:class.method"', "handler", HANDLER),
    ('handler = "module:import"', "handler", HANDLER),
    ('path = "/opt"', "path", 'must be a list of absolute paths, such as ["/opt/handlers"]'),
    ('path = ["/no/such"]', "path", 'there is no directory "/no/such"'),
    ('path = ["/bin/cat"]', "path", 'there is no directory "/bin/cat"'),
    ('directory = "/no/such"', "directory", 'there is no directory "/no/such"'),
    ("nice = -1", "nice", "is less than 0: a function has given up root's rights"),
    ("kill_after_s = 0", "kill_after_s", "must be a number of seconds from 0.1 to 3600"),
    (
        'model = "fork"',
        "model",
        (
            'a service of type "python" has no model, because a python dispatcher serves it: leave'
            " the key out"
        ),
    ),
]


@pytest.mark.parametrize(("line", "key", "sentence"), BAD)
def test_a_bad_value_is_refused(refuse: Refuse, line: str, key: str, sentence: str) -> None:
    """With its line, and a sentence that says what is right."""
    text = f"{HEAD if key == 'handler' else FUNCTION}{line}\n"
    number = text.count("\n")
    assert refuse(text) == [f"unpd.toml:{number}: services.x.{key}: {sentence}"]


def test_the_handler_is_needed(refuse: Refuse) -> None:
    """A function has no default."""
    sentence = HANDLER.replace("must be", "is missing; it must be")
    assert refuse(HEAD) == [f"unpd.toml:1: services.x.handler: {sentence}"]


@pytest.mark.parametrize("key", ["command", "stderr"])
def test_a_function_has_no_keys_of_a_program_alone(refuse: Refuse, key: str) -> None:
    """It has no command, and its output has one place."""
    (line,) = refuse(f'{FUNCTION}{key} = "log"\n')
    assert line.endswith('unknown key; only services of type "exec" have it')


def test_the_keys_are_kept(accept: Accept) -> None:
    """The effective configuration, loaded again, is the same; the module is not looked
    for.
    """
    text = FUNCTION + 'path = ["/tmp"]\nuser = "daemon"\nkill_after_s = 0.5\n'
    loaded = accept(text)
    assert loaded.warnings == ()
    service = loaded.config.services["x"]
    assert isinstance(service.options, FunctionOptions)
    assert service.options.path == ("/tmp",)  # noqa: S108 - only compared
    assert (service.kind, service.max_connections) == ("python", DEFAULT_PROGRAMS)
    assert accept(effective(loaded.config)).config == loaded.config


def test_only_streams_are_served(refuse: Refuse) -> None:
    """A function gets no datagram socket."""
    (line,) = refuse(FUNCTION.replace("tcp:", "udp:"))
    assert 'a service of type "python" is served at addresses with tcp:// or unix://' in line
