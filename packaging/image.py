"""Builds the container image of this source tree, as root: ``python packaging/image.py
[--sources FILE] [--output DIRECTORY] [--source-url URL]``.

Owns the layout of the root file system: which files of Debian it holds, and where unpd
lies. build.py beside this module lays out unpd and its libraries, as for a package, and
lists these; image/Containerfile has what a container engine has to know. The Makefile
and the tests of the image run this program; it runs mmdebstrap, chroot, buildah and
git. It ends with a trace if one of them fails.

The image holds no shell and no package manager. mmdebstrap makes a whole Debian, of
which the image takes the files that :data:`KEPT` names, out of the packages that
:data:`PACKAGES` names. Their records lie in /var/lib/dpkg/status.d, where scanners for
known faults look for them.

Two builds of one commit from the same packages of Debian give the same bytes. For that
every file bears root's name, fixed modes and one time, as in build.py; the bytecode
names no time, and the Python of the image makes it.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from build import (
    COMPONENTS,
    INTERPRETERS,
    described,
    launcher,
    lay_out_library,
    list_components,
    project_version,
    source_date_epoch_s,
    utc,
)
from from_pip import CACHE, HERE, ROOT

RECIPE = HERE / "image"
SUITE = "bookworm"
PYTHONS = ("3.11",)
"""The version of CPython in the image, for which it has compiled libraries."""
PACKAGES = (
    "base-files",
    "gcc-12-base",
    "libbz2-1.0",
    "libc6",
    "libcrypt1",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libssl3",
    "libuuid1",
    "python3-minimal",
    "python3.11-minimal",
    "tzdata",
    "zlib1g",
)
"""The packages of Debian that have files in the image."""
PATHS = (
    r"/etc/debian_version",
    r"/(etc|usr/lib)/os-release",
    r"/lib64/ld-linux-x86-64\.so\.2",
    r"(/usr)?/lib/x86_64-linux-gnu/[^/]+\.so[^/]*",
    r"/usr/bin/python3(\.11)?",
    # The modules of lib-dynload that are left out need libraries that the image lacks.
    r"/usr/lib/python3\.11/(?!lib-dynload/(_curses|_dbm|_sqlite3|nis|readline)|sitecustomize).+",
    r"/usr/share/common-licenses/.+",
    r"/usr/share/doc/[^/]+(/copyright)?",
    r"/usr/share/zoneinfo/(?!posix/|right/).+",
)
KEPT = re.compile("|".join(PATHS))
"""The files and links that the image takes out of these packages."""
LINKS = ("lib", "lib64")
"""Directories of Debian that are links to those of the same name below /usr."""
MOUNT_POINTS = ("dev", "proc", "sys")
WRITABLE = ("run/unpd", "tmp")
"""Directories that every user may write to, whatever user the container has."""


def main() -> None:
    """Build the image, and print the path of each archive and the digest."""
    parser = argparse.ArgumentParser(description="Build the container image of this source tree.")
    parser.add_argument(
        "--sources",
        type=Path,
        default=RECIPE / "sources.list",
        help="the sources of Debian, as lines of sources.list (default: Debian's mirror)",
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "dist", help="the directory for the archives"
    )
    parser.add_argument(
        "--source-url",
        default="",
        metavar="URL",
        help="where your copy of this source tree can be had, for a label of the image",
    )
    args = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("mmdebstrap, chroot and buildah need root: run this as root")
    os.umask(0o022)
    CACHE.mkdir(parents=True, exist_ok=True)
    args.output.mkdir(parents=True, exist_ok=True)
    version, epoch_s = project_version(), source_date_epoch_s()
    with tempfile.TemporaryDirectory(prefix="image-", dir=CACHE) as directory:
        stage = Path(directory)
        debootstrap(stage / "debian", args.sources.read_text())
        lay_out(stage / "root", stage / "debian", stage / "unpd", version, epoch_s)
        compile_modules(stage / "root")
        (stage / "context").mkdir()
        write_tar(stage / "context/root.tar", stage / "root", epoch_s)
        buildah = Buildah(stage / "storage", f"localhost/unpd:{version}")
        buildah.build(stage / "context", version, epoch_s, args.source_url)
        for path in write_archives(stage, buildah, version, epoch_s):
            print(put(path, args.output))
        print(digest_of(stage / "oci"))


# --- layout ---------------------------------------------------------------------------


def debootstrap(system: Path, sources: str) -> None:
    """Make a small Debian in the directory ``system``, with :data:`PACKAGES`."""
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=apt"]
    command += [f"--include={','.join(PACKAGES)}", SUITE, str(system), "-"]
    try:
        subprocess.run(command, input=sources.encode(), check=True)
    finally:
        detach(system)


def detach(system: Path) -> None:
    """Unmount what mmdebstrap could not, because another process was busy there: the
    directory is removed later, and nothing of this machine may be.
    """
    table = Path("/proc/self/mounts").read_text().splitlines()
    places = [line.split()[1] for line in table]
    for place in reversed([place for place in places if place.startswith(f"{system}/")]):
        subprocess.run(["umount", "--lazy", place], check=True)


def lay_out(root: Path, system: Path, stage: Path, version: str, epoch_s: int) -> None:
    """Fill ``root`` with the files of the image, but the bytecode. ``stage`` is for
    what build.py makes.
    """
    for name in LINKS:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in (*MOUNT_POINTS, *WRITABLE):
        (root / name).mkdir(parents=True)
    for package in PACKAGES:
        take_files(root, system, package)
    take_records(root, system)
    (stage / "made").mkdir(parents=True)
    lay_out_library(stage / "lib", version, PYTHONS)
    shutil.copytree(stage / "lib", root / "usr/lib/unpd")
    (root / "usr/bin/unpd").write_text(launcher(INTERPRETERS["deb"], PYTHONS))
    (root / "usr/bin/unpd").chmod(0o755)
    documents = root / "usr/share/doc/unpd"
    documents.mkdir()
    shutil.copy(HERE / "copyright", documents)
    (documents / COMPONENTS).write_bytes(list_components(version, epoch_s, PYTHONS))
    shutil.copytree(RECIPE / "etc", root / "etc", dirs_exist_ok=True)


def take_files(root: Path, system: Path, package: str) -> None:
    """Copy the files of one package of ``system`` that the image keeps."""
    records = system / "var/lib/dpkg/info"
    (listed,) = [*records.glob(f"{package}.list"), *records.glob(f"{package}:*.list")]
    for line in listed.read_text().splitlines():
        source, target = system / line[1:], root / line[1:]
        if KEPT.fullmatch(line) and (source.is_symlink() or source.is_file()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def take_records(root: Path, system: Path) -> None:
    """Write what dpkg knows of each package into a file of its own."""
    records = root / "var/lib/dpkg/status.d"
    records.mkdir(parents=True)
    for stanza in (system / "var/lib/dpkg/status").read_text().strip().split("\n\n"):
        package = stanza.partition("\n")[0].removeprefix("Package: ")
        if package in PACKAGES:
            (records / package).write_text(f"{stanza}\n")


def compile_modules(root: Path) -> None:
    """Make the bytecode, which a container could not keep: its root is read-only. It
    holds for the modules as they are, whatever their times.
    """
    command = ["chroot", str(root), "/usr/bin/python3", "-S", "-m", "compileall", "-q"]
    command += ["--invalidation-mode", "unchecked-hash", "/usr/lib/python3.11", "/usr/lib/unpd"]
    environment = {"PATH": os.environ["PATH"], "PYTHONHASHSEED": "0"}
    subprocess.run(command, env=environment, check=True)


# --- archives -------------------------------------------------------------------------


class Buildah:
    """buildah with a storage of its own, in which it makes the image ``name``."""

    def __init__(self, storage: Path, name: str) -> None:
        self._command = ["buildah", "--root", str(storage), "--runroot", f"{storage}-run"]
        self._command += ["--storage-driver", "vfs"]
        self._name = name

    def build(self, context: Path, version: str, epoch_s: int, source: str) -> None:
        """Make the image of the directory ``context``, which holds root.tar."""
        values = {
            "VERSION": version,
            "REVISION": revision(),
            "CREATED": utc(epoch_s),
            "LICENSES": described("license"),
        }
        arguments = [word for pair in values.items() for word in ("--build-arg", "=".join(pair))]
        # Only the format of Docker has a place for the health check.
        form = ["--format", "docker", "--timestamp", str(epoch_s), "--identity-label=false"]
        label = [f"--label=org.opencontainers.image.source={source}"] if source else []
        recipe = ["--file", str(RECIPE / "Containerfile"), "--tag", self._name, str(context)]
        self._run("build", "--quiet", "--layers=false", *form, *arguments, *label, *recipe)

    def push(self, destination: str) -> None:
        """Copy the image to ``destination`` (containers-transports(5))."""
        self._run("push", "--quiet", self._name, destination)

    def _run(self, *words: str) -> None:
        subprocess.run([*self._command, *words], check=True, stdout=subprocess.DEVNULL)


def revision() -> str:
    """The commit of the source tree, marked if files have changed since."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def write_archives(stage: Path, buildah: Buildah, version: str, epoch_s: int) -> Sequence[Path]:
    """Write the image into ``stage`` as an archive for docker and podman, and as one of
    the Open Container Initiative (OCI). Return their paths.
    """
    docker, oci = (stage / f"unpd-{version}-amd64.{form}.tar" for form in ("docker", "oci"))
    buildah.push(f"docker-archive:{stage}/pushed.tar:localhost/unpd:{version}")
    lay_out_for_docker(stage / "docker", stage / "pushed.tar")
    write_tar(docker, stage / "docker", epoch_s)
    buildah.push(f"oci:{stage}/oci:{version}")
    write_tar(oci, stage / "oci", epoch_s)
    return docker, oci


def lay_out_for_docker(directory: Path, pushed: Path) -> None:
    """Unpack an archive for docker without what differs from build to build: the number
    and the host name of the container in which buildah made the image.
    """
    directory.mkdir()
    with tarfile.open(pushed) as archive:
        (manifest,) = json.loads(content_of(archive, "manifest.json"))
        config = json.loads(content_of(archive, manifest["Config"]))
        (layer,) = manifest["Layers"]
        (directory / layer).write_bytes(content_of(archive, layer))
    del config["container"]
    config["config"]["Hostname"] = config["container_config"]["Hostname"] = ""
    text = json.dumps(config, sort_keys=True).encode()
    manifest["Config"] = f"{hashlib.sha256(text).hexdigest()}.json"
    (directory / manifest["Config"]).write_bytes(text)
    (directory / "manifest.json").write_text(json.dumps([manifest], sort_keys=True))


def content_of(archive: tarfile.TarFile, name: str) -> bytes:
    """The content of a file in an archive."""
    found = archive.extractfile(name)
    if found is None:
        raise SystemExit(f"buildah wrote an archive without {name}")
    return found.read()


def put(archive: Path, output: Path) -> Path:
    """Copy an archive into the directory ``output``, which has all of it or none."""
    shutil.copy(archive, output / f".{archive.name}")
    return (output / f".{archive.name}").rename(output / archive.name)


def digest_of(layout: Path) -> str:
    """The digest of the only image in a layout of the OCI."""
    (manifest,) = json.loads((layout / "index.json").read_text())["manifests"]
    return str(manifest["digest"])


def write_tar(archive: Path, directory: Path, epoch_s: int) -> None:
    """Write what ``directory`` holds, in the order of the names."""
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(directory.rglob("*")):
            entry = tar.gettarinfo(path, str(path.relative_to(directory)))
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = epoch_s
            entry.mode = mode_of(entry)
            if entry.isreg():
                with path.open("rb") as content:
                    tar.addfile(entry, content)
            else:
                tar.addfile(entry)


def mode_of(entry: tarfile.TarInfo) -> int:
    """The mode of an entry: fixed, but for whether it can be executed."""
    if entry.issym():
        return 0o777
    if entry.name in WRITABLE:
        return 0o1777
    return 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644


if __name__ == "__main__":
    main()
