"""Services of other packages: the worked example of the manual is installed and served,
and a package that cannot be used is an error of the configuration that names it.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.support import ROOT, clients, faults, manual
from tests.support.commands import RunUnpd
from tests.support.counts import ServiceCounts, wait_ended
from tests.support.launch import Launch
from tests.support.operating import refused_reload, reload
from tests.support.scale import first
from tests.support.waiting import until
from unpd import __version__
from unpd.config.service_types import known_types

LINECOUNT = """
[services.linecount]
listen = ["tcp://127.0.0.1:0"]
first = 5
"""
ECHO = '[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\n'
OWN = '[services.own]\nlisten = ["tcp://127.0.0.1:0"]\n'
GOOD = """
from unpd.services.base import Options, ServiceType
class Own:
    def __init__(self, options): pass
    def greet(self, wall_s): return b"own"
    def converse(self): return None
def row(**given):
    return ServiceType(**{
        "name": "own", "rfc": None, "port": 10078, "stream": True, "datagram": False,
        "options": Options, "make": Own, **given})
"""


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which pip has installed the example."""
    directory = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-index", "--no-deps", "--no-build-isolation", "--target", str(directory)),
            str(ROOT / "tests/linecount"),
        ],
        check=True,
        timeout=60,
    )
    return directory


def package(directory: Path, module: str, value: str = "own:ROW", name: str = "own") -> None:
    """Lay out an installed package with one entry point."""
    info = directory / "own_services-2.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-services\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text(f"[unpd.services]\n{name} = {value}\n")
    (directory / "own.py").write_text(module)


def checked(run_unpd: RunUnpd, directory: Path, keys: str = "") -> str:
    """What ``unpd check`` says of a configuration with the service of the package."""
    config = directory / "unpd.toml"
    config.write_text(f'[services.own]\nlisten = ["tcp://127.0.0.1:0"]\n{keys}')
    ended = run_unpd("check", "--config", str(config), packages=directory)
    assert ended.returncode in (0, 78), ended.stderr
    return ended.stderr or ended.stdout


def test_the_example_serves(launch: Launch, installed: Path) -> None:
    """Its own key has its range and its default, its connections are counted, and a
    reload changes its options as it does for any service.
    """
    daemon = launch(LINECOUNT, env={"PYTHONPATH": f"{ROOT}:{installed}"})
    address = daemon.address("linecount")
    with clients.connect(address) as sock:
        sock.sendall(b"one\ntwo\nthr")
        assert clients.read_exactly(sock, 3) == b"7\r\n"
        sock.sendall(b"ee\n")
        assert clients.read_exactly(sock, 3) == b"8\r\n"
    assert wait_ended(daemon, {"client_fin": 1}, service="linecount") == ServiceCounts(
        1, 0, {"client_fin": 1}, 14, 6
    )
    reload(daemon, LINECOUNT.replace("first = 5", "first = 0"))
    until(  # an old worker may still take what waited in its queue
        lambda: clients.converse(daemon.address("linecount"), b"a\n") == b"1\r\n",
        10.0,
        "a count from 0",
    )
    reason = refused_reload(daemon, LINECOUNT.replace("first = 5", "first = -1"))
    assert "services.linecount.first: must be a whole number from 0 to 1000000" in reason


def test_services_lists_what_there_is(installed: Path, run_unpd: RunUnpd) -> None:
    """Name, RFC, port, kinds and origin, those of unpd first."""
    ended = run_unpd("services", packages=installed)
    assert (ended.returncode, ended.stderr) == (0, "")
    rows = [re.split(r" {2,}", line) for line in ended.stdout.splitlines()]
    assert rows[0] == ["NAME", "RFC", "PORT", "KINDS", "FROM"]
    assert rows[1] == ["chargen", "864", "19", "stream, datagram", f"unpd {__version__}"]
    assert rows[-1] == ["linecount", "-", "10077", "stream, datagram", "unpd-linecount 1.0"]


def launcher_for(packages: Path, directory: Path) -> Path:
    """The launcher of the packaged program, which finds packages in ``packages``."""
    launcher = (ROOT / "packaging/launcher").read_text()
    libraries = (str(ROOT), str(directory / "libraries"))
    (directory / "libraries").mkdir()
    for installed in Path(sysconfig.get_path("purelib")).iterdir():
        if not installed.name.startswith("tzdata"):  # the packaged program has none
            (directory / "libraries" / installed.name).symlink_to(installed)
    moved = launcher.replace('sys.path.insert(0, "/usr/lib/unpd")', f"sys.path[:0] = {libraries}")
    moved = moved.replace('"/usr/local/lib/unpd"', repr(str(packages)))
    assert moved.count("/usr/") == launcher.count("/usr/") - 2
    program = directory / "unpd"
    program.write_text(moved)
    return program


def packaged(program: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the packaged program."""
    return subprocess.run(
        [sys.executable, "-IS", str(program), *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_packaged_program_finds_packages_of_the_administrator(
    installed: Path, tmp_path: Path
) -> None:
    """It is isolated from site-packages, and looks in /usr/local/lib/unpd."""
    ended = packaged(launcher_for(installed, tmp_path), "services")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1].endswith("  unpd-linecount 1.0")


@pytest.mark.parametrize("module", first(1, ["nt", "snappy", "tzdata", "org"]))
def test_the_packaged_program_runs_nothing_else_of_that_directory(
    tmp_path: Path, module: str
) -> None:
    """Python and the libraries import some modules if they are there; root imports none
    of them from the directory of the administrator, unless a service needs a package.
    """
    directory = tmp_path / "packages"
    package(directory, GOOD + "ROW = row()")
    (directory / f"{module}.py").write_text(f"print('{module} runs')\n")
    config = tmp_path / "unpd.toml"
    config.write_text(
        '[services.daytime]\nlisten = ["tcp://127.0.0.1:0"]\ntimezone = "Europe/Berlni"\n'
    )
    program = launcher_for(directory, tmp_path)
    ended = packaged(program, "check", "--config", str(config))
    assert (ended.returncode, ended.stdout) == (78, "")
    assert "there is no time zone" in ended.stderr
    ended = packaged(program, "services")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1].startswith("own ")


FAULTS = MappingProxyType(
    {
        "no module": (
            "raise LookupError('broken')",
            'the service type "own" of own-services 2.0 cannot be imported: LookupError: broken',
        ),
        "an exit at import": (
            "raise SystemExit(0)",
            'the service type "own" of own-services 2.0 cannot be imported: SystemExit: 0',
        ),
        "an interrupt at import": (
            "raise KeyboardInterrupt",
            'the service type "own" of own-services 2.0 cannot be imported: KeyboardInterrupt\n',
        ),
        "no words": (
            "class Mute(Exception):\n    __str__ = exit\nraise Mute",
            'the service type "own" of own-services 2.0 cannot be imported: Mute, which cannot be',
        ),
        "an exit in make": (
            GOOD + "ROW = row(make=exit)",
            'the service type "own" cannot make its service: SystemExit',
        ),
        "a model in make": (
            GOOD + "class Bad(Options):\n    color: int\nROW = row(make=lambda options: Bad())",
            'the service type "own" cannot make its service: ValidationError: ',
        ),
        "an exit in a method's place": (
            GOOD + "class Odd:\n    def __getattr__(self, name): exit()\n"
            "ROW = row(make=lambda options: Odd())",
            'the service type "own" cannot make its service: SystemExit',
        ),
        "an exit in the options": (
            GOOD + "from pydantic import model_validator\nclass Bad(Options):\n"
            "    @model_validator(mode='after')\n    def look(self): raise SystemExit\n"
            "ROW = row(options=Bad)",
            'the service type "own" cannot check its options: SystemExit',
        ),
        "no name": (
            "",
            'the service type "own" of own-services 2.0 cannot be imported: AttributeError:',
        ),
        "no row": (
            "ROW = int",
            'the service type "own" of own-services 2.0 is no ServiceType: own:ROW is type',
        ),
        "other name": (
            GOOD + "ROW = row(name='other')",
            'the service type "own" of own-services 2.0 is wrong: its name is "other"',
        ),
        "no kind": (
            GOOD + "ROW = row(stream=False)",
            "is wrong: it serves neither streams nor datagrams",
        ),
        "no options": (
            GOOD + "ROW = row(options=dict)",
            "is wrong: its options are no class that is derived from Options",
        ),
        "a common key": (
            GOOD + "class Bad(Options):\n    backlog: int = 7\nROW = row(options=Bad)",
            'is wrong: its option "backlog" is a key that every service has',
        ),
        "no method": (
            GOOD + "ROW = row(datagram=True)",
            'the service of type "own" has no method answer()',
        ),
        "no class": (
            GOOD + "ROW = row(make=lambda options: 1 / 0)",
            'the service type "own" cannot make its service: ZeroDivisionError: division by zero',
        ),
    }
)


@pytest.mark.parametrize("name", first(8, FAULTS))
def test_a_package_that_cannot_be_used_is_an_error_that_names_it(
    tmp_path: Path, name: str, run_unpd: RunUnpd
) -> None:
    """With the file, the line and the key of the service that has its type."""
    module, complaint = FAULTS[name]
    package(tmp_path, module)
    said = checked(run_unpd, tmp_path)
    assert complaint in said
    assert said.startswith(f"unpd: {tmp_path}/unpd.toml:1: services.own.type: ")
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        (
            "port=100770",
            "its port must be a whole number from 0 to 65535, not 100770",
        ),
        (
            "port=-1",
            "its port must be a whole number from 0 to 65535, not -1",
        ),
        (
            "port=None",
            "its port must be a whole number from 0 to 65535, not None",
        ),
        (
            "port=True",
            "its port must be a whole number from 0 to 65535, not True",
        ),
        (
            "port='10077'",
            "its port must be a whole number from 0 to 65535, not '10077'",
        ),
        (
            "rfc='862'",
            "its rfc must be the number of an RFC or None, not '862'",
        ),
        (
            "rfc=0",
            "its rfc must be the number of an RFC or None, not 0",
        ),
        (
            "name=b'own'",
            "its name must be a text, not of type bytes",
        ),
        (
            "stream=1",
            "its stream must be True or False, not 1",
        ),
        (
            "datagram=None",
            "its datagram must be True or False, not None",
        ),
        (
            "make='Own'",
            "its make must be a class or a function, not 'Own'",
        ),
        (
            "note=None",
            "its note must be a text, not None",
        ),
    ],
)
def test_a_row_with_a_wrong_field_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, sentence: str
) -> None:
    """The reason says what the field must be."""
    package(tmp_path, GOOD + f"ROW = row({field})")
    monkeypatch.syspath_prepend(str(tmp_path))
    (own,) = (known for known in known_types() if known.name == "own")
    assert own.fault == f'the service type "own" of own-services 2.0 is wrong: {sentence}'


def test_a_wrong_port_is_named_as_the_reason(tmp_path: Path, run_unpd: RunUnpd) -> None:
    """Where it is the default of a table without listen, too."""
    package(tmp_path, GOOD + "ROW = row(port=None)")
    config = tmp_path / "unpd.toml"
    config.write_text("[services.own]\n")
    ended = run_unpd("check", "--config", str(config), packages=tmp_path)
    assert ended.returncode == 78
    assert f"unpd: {config}:1: services.own.type: the service type" in ended.stderr
    assert "is wrong: its port must be" in ended.stderr


def test_a_package_that_is_right_is_accepted(tmp_path: Path, run_unpd: RunUnpd) -> None:
    """The modules of the faults above are wrong for no other reason."""
    package(tmp_path, GOOD + "ROW = row()")
    assert checked(run_unpd, tmp_path) == f"configuration OK: {tmp_path}/unpd.toml\n"
    assert "unknown key" in checked(run_unpd, tmp_path, "color = 1")


def test_services_reports_a_package_that_cannot_be_used(tmp_path: Path, run_unpd: RunUnpd) -> None:
    """It lists all others, and its exit code is that of a wrong configuration."""
    package(tmp_path, "raise LookupError('broken')")
    ended = run_unpd("services", packages=tmp_path)
    assert ended.returncode == 78
    assert 'the service type "own" of own-services 2.0 cannot be imported' in ended.stderr
    assert ended.stdout.splitlines()[-1].split() == [
        *("own", "-", "-", "unusable", "own-services", "2.0")
    ]


@pytest.mark.parametrize("module", ["raise SystemExit(0)", GOOD + "ROW = row(make=exit)"])
def test_a_package_that_exits_is_refused_by_a_reload(
    launch: Launch, tmp_path: Path, module: str
) -> None:
    """The daemon serves on: sys.exit() in a package does not end the master."""
    packages = tmp_path / "packages"
    packages.mkdir()
    package(packages, module)
    daemon = launch(ECHO, env={"PYTHONPATH": f"{ROOT}:{packages}"})
    assert "SystemExit" in refused_reload(daemon, ECHO + OWN)
    assert clients.converse(daemon.address("echo"), b"on") == b"on"


def test_a_directory_of_packages_that_comes_later(launch: Launch, tmp_path: Path) -> None:
    """A directory that is made while the daemon runs is found by a reload."""
    packages = tmp_path / "packages"
    daemon = launch(ECHO, env={"PYTHONPATH": f"{ROOT}:{packages}"})
    packages.mkdir()
    package(packages, GOOD + "ROW = row()")
    reload(daemon, ECHO + OWN)
    assert clients.converse(daemon.address("own"), b"") == b"own"


def test_a_package_that_was_corrected(launch: Launch, tmp_path: Path) -> None:
    """A reload loads the corrected file of a package that an earlier one refused."""
    packages = tmp_path / "packages"
    packages.mkdir()
    package(packages, "ROW = int")
    daemon = launch(ECHO, env={"PYTHONPATH": f"{ROOT}:{packages}"})
    assert "is no ServiceType" in refused_reload(daemon, ECHO + OWN)
    (packages / "own.py").write_text(GOOD + "ROW = row()")
    reload(daemon, ECHO + OWN)
    assert clients.converse(daemon.address("own"), b"") == b"own"


@pytest.mark.parametrize("model", ["event", "fork", "iterative"])
def test_a_package_that_exits_ends_a_connection_only(
    launch: Launch, tmp_path: Path, model: str
) -> None:
    """sys.exit() in an answer ends neither the worker, nor the process of the session
    before it has counted and logged the end.
    """
    packages = tmp_path / "packages"
    packages.mkdir()
    spoken = GOOD.replace("return None", "return Conversation(lambda piece: exit(0))")
    package(packages, "from unpd.services.base import Conversation\n" + spoken + "ROW = row()")
    text = f'[pools.default]\nworkers = 1\n{ECHO}{OWN}model = "{model}"\n'
    daemon = launch(text, env={"PYTHONPATH": f"{ROOT}:{packages}"})
    daemon.expect_errors("connection.failed")
    daemon.expect_traceback()
    workers = daemon.workers()
    for count in (1, 2):
        assert clients.converse(daemon.address("own"), b"x") == b"own"
        wait_ended(daemon, {"error": count}, service="own")
    failed, *_ = daemon.log_events("connection.failed")  # a worker has one a second at most
    assert failed.fields["error"] == "SystemExit(0)"
    assert daemon.workers() == workers
    assert clients.converse(daemon.address("echo"), b"on") == b"on"


def as_nobody(packages: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of unpd with these packages, as another user."""
    return subprocess.run(
        [sys.executable, "-m", "unpd", *words],
        cwd=packages,
        env={"PATH": "/usr/bin", "PYTHONPATH": f"{ROOT}:{packages}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        user="nobody",
        extra_groups=[],
    )


@faults.requires_root
@pytest.mark.parametrize("closed", first(1, ["packages", "packages/own_services-2.0.dist-info"]))
def test_a_package_that_the_user_may_not_read(public: Path, closed: str) -> None:
    """A missing type is no proof that there is none: the message names the place that
    is closed, such as the umask of a root who installed the package has made it.
    """
    packages = public / "packages"
    packages.mkdir()
    package(packages, GOOD + "ROW = row()")
    (public / closed).chmod(0o700)
    config = public / "unpd.toml"
    config.write_text(OWN)
    place = f"{public / closed}, which the user nobody may not read"
    ended = as_nobody(packages, "check", "--config", str(config))
    assert ended.returncode == 78
    assert f'there is no service type "own", unless it is in {place}; ' in ended.stderr
    ended = as_nobody(packages, "services")
    assert ended.returncode == 0
    assert ended.stderr == f"warning: there may be more types in {place}\n"


def test_a_package_that_is_gone_is_refused_by_a_reload(launch: Launch, tmp_path: Path) -> None:
    """A restart would fail without it, so a reload does, too, and the daemon serves on;
    whether the module is gone or the table of its entry points.
    """
    packages = tmp_path / "packages"
    packages.mkdir()
    package(packages, GOOD + "ROW = row()")
    daemon = launch(ECHO + OWN, env={"PYTHONPATH": f"{ROOT}:{packages}"})
    for name in ("own.py", "own_services-2.0.dist-info"):
        (packages / name).rename(tmp_path / "aside")
        reason = refused_reload(daemon, ECHO + OWN + "backlog = 7\n")
        assert 'the service type "own" is loaded, but its package was removed' in reason
        assert clients.converse(daemon.address("own"), b"") == b"own"
        (tmp_path / "aside").rename(packages / name)
    reload(daemon, ECHO + OWN + "backlog = 7\n")


def test_a_package_runs_only_if_a_service_has_its_type(tmp_path: Path, run_unpd: RunUnpd) -> None:
    """That it has a service type is not enough."""
    package(tmp_path, "print('the package runs')")
    config = tmp_path / "unpd.toml"
    config.write_text('[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\n')
    for words in (("check", "--config", str(config)), ("--version",)):
        ended = run_unpd(*words, packages=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "the package runs" not in ended.stdout


def test_a_package_replaces_no_service_of_unpd(tmp_path: Path, run_unpd: RunUnpd) -> None:
    """The name echo means the echo of unpd."""
    package(tmp_path, "print('the package runs')", name="echo")
    ended = run_unpd("services", packages=tmp_path)
    assert ended.returncode == 0
    assert "the package runs" not in ended.stdout
    assert ended.stdout.count("\necho ") == 1


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        (b"[unpd.services]\nown own:ROW\n", 'line 2 of entry_points.txt has no "=": "own own:ROW"'),
        (b"[unpd.services]\n\xe9wn = own:ROW\n", "entry_points.txt is not UTF-8"),
    ],
)
def test_a_broken_table_of_entry_points_is_named(
    tmp_path: Path, table: bytes, fault: str, run_unpd: RunUnpd
) -> None:
    """By the list of types, which has all others, and where a type is not found. No
    other configuration is refused.
    """
    package(tmp_path, GOOD + "ROW = row()")
    (tmp_path / "own_services-2.0.dist-info/entry_points.txt").write_bytes(table)
    sentence = f"the entry points of own-services 2.0 cannot be read: {fault}\n"
    ended = run_unpd("services", packages=tmp_path)
    assert (ended.returncode, ended.stderr) == (78, f"unpd: {sentence}")
    assert "\necho " in ended.stdout
    assert checked(run_unpd, tmp_path).endswith(
        f':1: services.own.type: there is no service type "own", but {sentence}'
    )
    config = tmp_path / "unpd.toml"
    config.write_text('[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\n')
    assert run_unpd("check", "--config", str(config), packages=tmp_path).returncode == 0


def test_a_package_without_metadata_has_no_name(tmp_path: Path, run_unpd: RunUnpd) -> None:
    """Its type serves nevertheless."""
    package(tmp_path, GOOD + "ROW = row()")
    (tmp_path / "own_services-2.0.dist-info/METADATA").unlink()
    ended = run_unpd("services", packages=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-1].endswith("  a package without a name")


@pytest.mark.slow
def test_two_packages_with_one_type_are_an_error_that_names_both(
    tmp_path: Path, run_unpd: RunUnpd
) -> None:
    """The order of a directory does not decide which one runs. A package that is there
    twice is not two.
    """
    package(tmp_path, GOOD + "ROW = row()")
    shutil.copytree(tmp_path / "own_services-2.0.dist-info", tmp_path / "other-1.dist-info")
    assert checked(run_unpd, tmp_path) == f"configuration OK: {tmp_path}/unpd.toml\n"
    (tmp_path / "other-1.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: other\nVersion: 1\n"
    )
    said = checked(run_unpd, tmp_path)
    assert re.search(
        r'the service type "own" is in (own-services 2\.0 and other 1|other 1 and own-services'
        r" 2\.0): remove all but one\n",
        said,
    )
    ended = run_unpd("services", packages=tmp_path)
    assert (ended.returncode, ended.stdout.count("\nown ")) == (78, 1)
    assert "remove all but one" in ended.stderr


def test_the_example_stands_in_the_manual() -> None:
    """unpd-services(7) has its module and its entry point, word for word."""
    module = (ROOT / "tests/linecount/linecount.py").read_text()
    assert manual.example("unpd-services.7", '"""Counts the lines') == module
    entry = '[project.entry-points."unpd.services"]\nlinecount = "linecount:LINECOUNT"\n'
    assert manual.example("unpd-services.7", entry) == entry
    assert entry in (ROOT / "tests/linecount/pyproject.toml").read_text()
