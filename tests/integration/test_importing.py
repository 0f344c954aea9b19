"""The import of the function of a service of type python, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, faults

IMPORT = """
import sys
from unpd.dispatcher.importing import HandlerError, import_function
try:
    function = import_function("upper", sys.argv[1], sys.argv[2:])
except HandlerError as error:
    print(error)
else:
    print(function.__name__, "can be called")
"""
GOOD = "def serve(sock): pass\n"


def imported(handler: str, *path: Path, user: str | None = None) -> str:
    """Import a handler; return what became of it."""
    ended = subprocess.run(
        [sys.executable, "-c", IMPORT, handler, *map(str, path)],
        cwd="/",
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        user=user,
        extra_groups=[] if user else None,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_a_function_is_found_on_the_path(tmp_path: Path) -> None:
    """Also in a package, and before a module of the same name elsewhere."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package/module.py").write_text(GOOD)
    (tmp_path / "wave.py").write_text(GOOD)
    assert imported("package.module:serve", tmp_path) == "serve can be called"
    assert imported("wave:serve", tmp_path) == "serve can be called"


THREAD = """
import threading, time
threading.Thread(target=time.sleep, args=(9,), name="tick", daemon=True).start()
"""


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        (
            "import absent",
            "cannot be imported: ModuleNotFoundError: No module named 'absent' ({own}, line 1)",
        ),
        ("\n\n1 / 0", "cannot be imported: ZeroDivisionError: division by zero ({own}, line 3)"),
        (
            "import json\njson.loads('')",
            (
                "cannot be imported: JSONDecodeError: Expecting value: line 1 column 1 (char 0)"
                " ({own}, line 2)"
            ),
        ),
        ("\nraise SystemExit(0)", "cannot be imported: SystemExit: 0 ({own}, line 2)"),
        (
            "def serve(sock)\n",
            "cannot be imported: SyntaxError: expected ':' ({own}, line 1)",
        ),
        (
            "class Mute(Exception):\n    __str__ = exit\nraise Mute",
            "cannot be imported: Mute, which cannot be shown ({own}, line 3)",
        ),
        ("serv = 1", "is no function of {own}"),
        ("serve = 1", "is no function of {own}"),
        (
            "def serve(): pass",
            "cannot be called with a socket alone: too many positional arguments",
        ),
        (
            "def serve(sock, peer): pass",
            "cannot be called with a socket alone: missing a required argument: 'peer'",
        ),
        ("async def serve(sock): pass", "must be a plain function, without async and yield"),
        ("def serve(sock): yield", "must be a plain function, without async and yield"),
        (
            "import functools\nasync def s(n, sock): pass\nserve = functools.partial(s, 1)",
            "must be a plain function, without async and yield",
        ),
        ("async def serve(sock): yield", "must be a plain function, without async and yield"),
        (
            "class Serve:\n    async def __call__(self, sock): pass\nserve = Serve()",
            "must be a plain function, without async and yield",
        ),
        (
            THREAD + GOOD,
            "starts threads when it is imported (tick), and a process with threads must not fork",
        ),
    ],
)
def test_a_handler_that_cannot_be_used_is_refused(
    tmp_path: Path, module: str, sentence: str
) -> None:
    """The reason has the last line of the traceback, and the file and the line."""
    own = tmp_path / "own.py"
    own.write_text(module)
    reason = sentence.format(own=own)
    assert imported("own:serve", tmp_path) == f'services.upper.handler: "own:serve" {reason}'


def test_a_module_of_the_name_of_one_of_ours_is_refused(tmp_path: Path) -> None:
    """It would not be imported, because there is one of that name already."""
    (tmp_path / "socket.py").write_text(GOOD)
    assert imported("socket:serve", tmp_path) == (
        'services.upper.handler: "socket:serve" is in a module that unpd itself has loaded: give it'
        " another name"
    )


def test_a_module_that_does_not_exist_is_named() -> None:
    """No file is to blame then."""
    assert imported("absent_module:serve") == (
        'services.upper.handler: "absent_module:serve" cannot be imported: ModuleNotFoundError: No'
        " module named 'absent_module'"
    )


@faults.requires_root
def test_a_directory_that_the_user_cannot_read_is_named(public: Path) -> None:
    """The import system passes over it without a word."""
    (public / "own.py").write_text(GOOD)
    assert imported("own:serve", public, user="nobody") == "serve can be called"
    public.chmod(0o700)
    assert imported("own:serve", public, user="nobody") == (
        'services.upper.handler: "own:serve" cannot be imported: ModuleNotFoundError: No module'
        f" named 'own'; the user nobody cannot read {public}"
    )
