"""What a person reads whose text is not TOML: a sentence for each mistake that people
who write TOML rarely make.
"""

from collections.abc import Callable

import pytest

from unpd.config.syntax import explain

Refuse = Callable[[str], list[str]]

XINETD = (
    "this looks like a file of xinetd or inetd: here a service is a table [services.NAME] with"
    " lines KEY = VALUE"
)
JSON = (
    "this looks like JSON: here a table begins with a line [services.NAME], and lines KEY = VALUE"
    " follow"
)
MISTAKES = [
    (
        "[services.echo]\n[services.daytime]\n[services.echo]\n",
        3,
        "the table [services.echo] is on line 1 already: put the keys of both into one",
    ),
    (
        "[daemon]\nuser='a'\nuser='b'\n[services.echo]\n",
        3,
        "daemon.user is on line 2 already: keep one of the two",
    ),
    (
        "[daemon]\ngrace_s = 1\ngrace_s = [\n1,\n2]\n",
        5,
        "daemon.grace_s is on line 2 already: keep one of the two",
    ),
    (
        "daemon.user='a'\n[daemon]\nuser='b'\n",
        2,
        "the table [daemon] is on line 1 already: put the keys of both into one",
    ),
    (
        "[services.echo]\na.b=1\n[services.echo.a]\n",
        3,
        "the table [services.echo.a] is on line 2 already: put the keys of both into one",
    ),
    ("x=1\n[x]\n", 2, "the table [x] is on line 1 already: put the keys of both into one"),
    ("[[a]]\n[a]\n", 2, "the table [a] is on line 1 already: put the keys of both into one"),
    ("a={b=1}\na.c=2\n", 2, "a is on line 1 already: keep one of the two"),
    ("a={b=1,b=2}\n", 1, "a.b is on this line already: keep one of the two"),
    (
        "[daemon]\nuser = 'a'\n[log]\n[daemon]\n",
        4,
        "the table [daemon] is on line 1 already: put the keys of both into one",
    ),
    ("[services.echo]\ntype = echo\n", 2, 'a text needs quotes: type = "..."'),
    ("[services.echo]\nlisten = [tcp://[::]:7]\n", 2, 'a text needs quotes: listen = ["..."]'),
    ("listen = tcp://[::]:7\n", 1, 'a text needs quotes: listen = "..."'),
    ("[log]\nfile = /var/log/x\n", 2, 'a text needs quotes: file = "..."'),
    ("[log]\nlevel = \n", 2, "the value of level is missing"),
    ("[log]\nlevel = # none\n", 2, "the value of level is missing"),
    ("x = [\n\n", 1, "the list that begins on line 1 lacks a comma or its closing bracket ]"),
    (
        "x = ['a'\ny = 1\n",
        2,
        "the list that begins on line 1 lacks a comma or its closing bracket ]",
    ),
    ("x = ['a' 'b']\n", 1, "the list that begins on line 1 lacks a comma or its closing bracket ]"),
    (
        "x = ['a', 'b'\n[log]\n",
        2,
        "the list that begins on line 1 lacks a comma or its closing bracket ]",
    ),
    ("keepalive = yes\n", 1, "write true or false, in lower case and without quotes"),
    ("keepalive = True\n", 1, "write true or false, in lower case and without quotes"),
    ("keepalive = Off\n", 1, "write true or false, in lower case and without quotes"),
    ("level = \u201cinfo\u201d\n", 1, 'U+201C is no quotation mark of TOML: use "'),
    ("level = \u2018info\u2019\n", 1, 'U+2018 is no quotation mark of TOML: use "'),
    ("a == 1\n", 1, "the sign = stands here twice"),
    ("a = = 1\n", 1, "the sign = stands here twice"),
    ("[daemon]\ngrace_s = 10s\n", 2, "a number has no unit; times are in seconds"),
    ("grace_s = 10 s\n", 1, "a number has no unit; times are in seconds"),
    ("grace_s = 1m30s", 1, "a number has no unit; times are in seconds"),
    ("x = 5%\n", 1, "a number has no unit: write it in digits alone"),
    ("[services.echo]\nbacklog = 4k\n", 2, "a number has no unit: write it in digits alone"),
    ("max_connections = 2M\n", 1, "a number has no unit: write it in digits alone"),
    ("timeout = 10 min\n", 1, "a number has no unit; times are in seconds"),
    (
        "socket_mode = 0660\n",
        1,
        'a number does not begin with 0; a mode needs quotes, such as "0660"',
    ),
    ("listen = 127.0.0.1:7\n", 1, 'a text needs quotes: listen = "..."'),
    ("listen = 0.0.0.0:7\n", 1, 'a text needs quotes: listen = "..."'),
    ("x = 1,5\n", 1, "a point, not a comma, stands before the fraction of a number"),
    ("x = 1_000;\n", 1, "nothing but a comment, which begins with #, may follow on this line"),
    ("level = 'info';\n", 1, "nothing but a comment, which begins with #, may follow on this line"),
    ("listen = 'a', 'b'\n", 1, 'several values need brackets: listen = ["...", "..."]'),
    ("listen = 'a' 'b'\n", 1, 'several values need brackets: listen = ["...", "..."]'),
    (
        "level = 'info' info\n",
        1,
        "nothing but a comment, which begins with #, may follow on this line",
    ),
    (
        "[log] level = 'x'\n",
        1,
        "nothing but a comment, which begins with #, may follow on this line",
    ),
    ("[log]]\n", 1, "a closing bracket stands here without its opening one"),
    ("x = 1]\n", 1, "a closing bracket stands here without its opening one"),
    (
        "service echo\n{\n disable = no\n}\n",
        1,
        XINETD,
    ),
    (
        "defaults\n{\n}\n",
        1,
        XINETD,
    ),
    (
        "echo stream tcp nowait root internal\n",
        1,
        XINETD,
    ),
    (
        "includedir /etc/xinetd.d\n",
        1,
        XINETD,
    ),
    ("level: info\n", 1, "write = in place of :"),
    (
        "level info\n",
        1,
        "the sign = is missing: a line is KEY = VALUE, or [TABLE], or a comment that begins with #",
    ),
    ("only_from += 10.0.0.0\n", 1, "write = in place of +="),
    ("services.echo]\n", 1, "the bracket [ is missing before the name of the table"),
    ("[services.echo\nlisten=[]\n", 1, "the bracket ] is missing after the name of the table"),
    (
        "[services.my echo]\n",
        1,
        "the name of a table has letters, digits, - and _ only, and dots between its parts",
    ),
    (
        "[services/echo]\n",
        1,
        "the name of a table has letters, digits, - and _ only, and dots between its parts",
    ),
    ("[]\n", 1, "the name of the table is missing"),
    ("[services.]\n", 1, "a key is missing here"),
    ("= 5\n", 1, "the key before = is missing"),
    ("[service]\n{\n", 2, XINETD),
    ("{\n", 1, JSON),
    ('{"services": {"echo": {}}}\n', 1, JSON),
    ('\n# a comment\n{\n  "services": {}\n}\n', 3, JSON),
    ("}\n", 1, "a closing bracket stands here without its opening one"),
    ("; comment\n", 1, "a line is KEY = VALUE, or [TABLE], or a comment that begins with #"),
    ("// comment\n", 1, "a line is KEY = VALUE, or [TABLE], or a comment that begins with #"),
    ("\xe9 = 1\n", 1, "the character U+00E9 is not allowed in a key without quotes"),
    ("\ufeff\ufeffa=1\n", 1, "the character U+FEFF is not allowed in a key without quotes"),
    ("\xa0a = 1\n", 1, "the character U+00A0 is not allowed in a key without quotes"),
    ("a\xa0= 1\n", 1, "the character U+00A0 is not allowed in a key without quotes"),
    ('level = "info\n', 1, "the closing quotation mark is missing"),
    ("level = 'info\n", 1, "the closing quotation mark is missing"),
    ('level = "info', 1, "the closing quotation mark is missing"),
    ("level = '''info", 1, "the closing quotation mark is missing"),
    ('level = """info', 1, "the closing quotation mark is missing"),
    (
        'file = "C:\\log"\n',
        1,
        "a backslash within double quotes begins an escape: write it twice, or use single quotes",
    ),
    ('a = "\\u12"\n', 1, "4 hexadecimal digits follow \\u, and 8 follow \\U"),
    ('a = "\\ud800"\n', 1, "this escape stands for no character"),
    ("a = 2026-13-01\n", 1, 'a text needs quotes: a = "..."'),
    ("a = 25:00:00\n", 1, 'a text needs quotes: a = "..."'),
    ("level = 'in\x07fo'\n", 1, "the control character U+0007 is not allowed here"),
    ("# a\x08\n", 1, "the control character U+0008 is not allowed here"),
    (
        "a = 1\rb = 2\r",
        1,
        "a carriage return stands here alone: end each line with LF, or with CR and LF",
    ),
    ("x = {\n a = 1\n}\n", 1, "a table in braces must end on its line"),
    ("x = {a = 1,}\n", 1, "a key is missing here"),
    (
        "x = {a = 1 b = 2}\n",
        1,
        "the table in braces lacks a comma or its closing brace } on this line",
    ),
    ("x = {a = 1\n", 1, "the table in braces lacks a comma or its closing brace } on this line"),
    (
        "a = 1.\n",
        1,
        "this is no value: a value is a number, true, false, a text in quotes or a list",
    ),
    (
        "a = .5\n",
        1,
        "this is no value: a value is a number, true, false, a text in quotes or a list",
    ),
    (
        "a = +-1\n",
        1,
        "this is no value: a value is a number, true, false, a text in quotes or a list",
    ),
    (
        "a = 1__0\n",
        1,
        "this is no value: a value is a number, true, false, a text in quotes or a list",
    ),
    ("a = $HOME\n", 1, 'a text needs quotes: a = "..."'),
    ("a = <b>\n", 1, 'a text needs quotes: a = "..."'),
    ("a.b. = 1\n", 1, "a key is missing here"),
    ("a..b = 1\n", 1, "a key is missing here"),
    ('"a = 1\n', 1, "the closing quotation mark is missing"),
    ("a = 08\n", 1, 'a number does not begin with 0; a mode needs quotes, such as "0660"'),
    ("a = 0x\n", 1, "a number has no unit: write it in digits alone"),
    ("listen = []]\n", 1, "a closing bracket stands here without its opening one"),
    ("listen = [1, 2],\n", 1, 'a text needs quotes: listen = "..."'),
    ("a = {b = c}\n", 1, 'a text needs quotes: b = "..."'),
    ("listen = ['a', b]\n", 1, 'a text needs quotes: listen = ["..."]'),
    ("level = null\n", 1, "leave level out to get its default"),
    ("level = None\n", 1, "leave level out to get its default"),
    (
        "a = 1 # ok\nb\n",
        2,
        "the sign = is missing: a line is KEY = VALUE, or [TABLE], or a comment that begins with #",
    ),
    (
        "[services.echo]\nlisten = [\n  'tcp://[::]:7'\n  'tcp://[::]:8'\n]\n",
        4,
        "the list that begins on line 2 lacks a comma or its closing bracket ]",
    ),
    (
        "-- comment\n",
        1,
        "the sign = is missing: a line is KEY = VALUE, or [TABLE], or a comment that begins with #",
    ),
    ("! x\n", 1, "a line is KEY = VALUE, or [TABLE], or a comment that begins with #"),
    ("level = info # c\n", 1, 'a text needs quotes: level = "..."'),
    ("grace_s = ten\n", 1, 'a text needs quotes: grace_s = "..."'),
    ("grace_s = 5e\n", 1, "a number has no unit; times are in seconds"),
    ("grace_s = 5 6\n", 1, "a second number stands here: grace_s has one value"),
    ("a = truely\n", 1, 'a text needs quotes: a = "..."'),
    (
        "listen = [\n 'a',\nbacklog = 1\n",
        3,
        "the list that begins on line 1 lacks a comma or its closing bracket ]",
    ),
]


@pytest.mark.parametrize(("text", "line", "sentence"), MISTAKES, ids=[row[0] for row in MISTAKES])
def test_a_mistake_is_explained(refuse: Refuse, text: str, line: int, sentence: str) -> None:
    """The sentence names the line, says what is wrong there and what would be right."""
    assert refuse(text) == [f"unpd.toml:{line}: not valid TOML: {sentence}"]


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_every_end_of_a_line_counts_once(refuse: Refuse, end: str) -> None:
    """Line numbers are right in a file of Windows, too."""
    text = "[services.echo]\n\n[log]\nlevel = info\n".replace("\n", end)
    assert refuse(text) == ['unpd.toml:4: not valid TOML: a text needs quotes: level = "..."']


def test_words_that_no_rule_knows_stay() -> None:
    """A message of a later tomllib keeps its words and its place."""
    assert explain("a\nb", "Something new (at line 2, column 1)") == (2, "Something new (column 1)")
    assert explain("a\nb\n", "Something new (at end of document)") == (
        2,
        "Something new (at the end of the file)",
    )
    assert explain("a", "Something else") == (1, "Something else (at the end of the file)")
