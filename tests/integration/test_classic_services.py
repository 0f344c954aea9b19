"""Discard, chargen, time and qotd in a whole daemon: bytes, ends and counters, over TCP
and UNIX sockets, and what a stop and a reload do to a chargen that never ends.
"""

import signal
import socket
import struct
import time
from pathlib import Path

import pytest

from tests.support import clients, procs
from tests.support.counts import ServiceCounts, service_counts, wait_active, wait_ended
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import refused_reload, reload
from tests.support.waiting import pause, until
from unpd.names import Model
from unpd.services.chargen import lines
from unpd.services.time868 import EPOCH_S, NOTE

MIB = 1 << 20
LATE_S = 10.0
"""How much later than its deadline an end may be seen on a busy machine."""
FORTUNES = "one\n%\ntwo\nlines\n%\nthree\n"
QUOTATIONS = {b"one\r\n", b"two\r\nlines\r\n", b"three\r\n"}


@pytest.fixture
def model(request: pytest.FixtureRequest) -> Model:
    """The model of the services: event, or what :data:`in_every_model` says."""
    return Model(getattr(request, "param", Model.EVENT))


in_every_model = pytest.mark.parametrize(
    ("model", "kind"),
    [
        pytest.param(model, kind, id=f"{model}-{name}")
        for model in Model
        for kind, name in enumerate(("tcp", "unix"))
        if (model, name) != (Model.ITERATIVE, "unix")  # a worker too, as with event
    ],
    indirect=["model"],
)
"""Runs a test in each model, over TCP and over a UNIX socket."""
serving_longer = pytest.mark.parametrize("model", [Model.EVENT, Model.FORK], indirect=True)
"""Runs a test with a worker and with a session."""


@pytest.fixture
def config(tmp_path: Path, public: Path, model: Model) -> str:
    """Every classic service over TCP and over a UNIX socket, with one worker."""
    (public / "fortunes").write_text(FORTUNES)
    text = "[pools.default]\nworkers = 1\n"
    for name in ("discard", "chargen", "time", "qotd", "echo"):
        text += (
            f'[services.{name}]\nlisten = ["tcp://127.0.0.1:0", "unix://{tmp_path}/{name}.sock"]\n'
            f'model = "{model}"\n'
        )
        text += f'file = "{public}/fortunes"\n' if name == "qotd" else ""
    return text


@pytest.fixture
def unpd(launch: Launch, config: str) -> Unpd:
    """The daemon."""
    return launch(config)


def pattern(count: int) -> bytes:
    """The first bytes that chargen sends."""
    return (lines() * (count // len(lines()) + 1))[:count]


def read_pattern(sock: socket.socket, count: int = 0) -> int:
    """Read ``count`` bytes of the pattern (0: to the FIN), compare each piece, and
    return how many bytes came. A fast reader gets gigabytes, so it keeps none.
    """
    period, read = lines() * 40, 0
    while not count or read < count:
        piece = sock.recv(min(256 << 10, count - read) if count else 256 << 10)
        if not piece:
            break
        begin = read % len(lines())
        assert period[begin : begin + len(piece)] == piece, f"after {read} bytes"
        read += len(piece)
    return read


@in_every_model
def test_discard_takes_everything(unpd: Unpd, kind: int) -> None:
    """Nothing comes back, and the client's FIN is answered."""
    assert clients.converse(unpd.address("discard", kind), bytes(3 * MIB)) == b""
    assert wait_ended(unpd, {"client_fin": 1}, service="discard") == ServiceCounts(
        1, 0, {"client_fin": 1}, 3 * MIB, 0
    )


@in_every_model
def test_chargen_goes_on_for_as_long_as_the_client_reads(unpd: Unpd, kind: int) -> None:
    """Its client gets the pattern, and the end of the client is the end."""
    with clients.connect(unpd.address("chargen", kind)) as sock:
        assert read_pattern(sock, 1000 * len(lines())) == 1000 * len(lines())
        assert clients.read_exactly(sock, MIB) == pattern(MIB)
        sock.shutdown(socket.SHUT_WR)
        rest = clients.read_all(sock)
    assert pattern(MIB) + rest == pattern(MIB + len(rest))
    assert wait_ended(unpd, {"client_fin": 1}, service="chargen") == ServiceCounts(
        1, 0, {"client_fin": 1}, 0, 1000 * len(lines()) + MIB + len(rest)
    )


@in_every_model
def test_time_sends_four_bytes_and_closes(unpd: Unpd, kind: int) -> None:
    """The seconds since 1900, most significant byte first. The log says when they begin
    again.
    """
    before = int(time.time())
    answer = clients.ask(unpd.address("time", kind))
    assert len(answer) == 4
    (seconds,) = struct.unpack("!I", answer)
    assert before <= seconds - EPOCH_S <= time.time()
    assert wait_ended(unpd, {"done": 1}, service="time") == ServiceCounts(1, 0, {"done": 1}, 0, 4)
    (note,) = unpd.log_events("service.note")
    assert (note.fields["service"], note.fields["text"]) == ("time", NOTE)


def test_a_reload_tells_the_limit_of_a_new_service(launch: Launch) -> None:
    """The log says once of each service when its 32 bits begin again: at start, or when
    a reload adds the service or changes its type.
    """
    text = '[services.one]\ntype = "time"\nlisten = ["tcp://127.0.0.1:0"]\n'
    unpd = launch(text)

    def noted() -> list[str]:
        return [str(event.fields["service"]) for event in unpd.log_events("service.note")]

    two = '[services.two]\ntype = "daytime"\nlisten = ["udp://127.0.0.1:0"]\n'
    reload(unpd, text + two)
    reload(unpd, every_pool=True)
    assert noted() == ["one"]
    reload(unpd, text + two.replace("daytime", "time"))
    assert noted() == ["one", "two"]


@in_every_model
def test_qotd_sends_another_quotation_to_each_client(unpd: Unpd, kind: int) -> None:
    """Each one of the file comes, and none twice in a row, also where each client has a
    session of its own.
    """
    got = [clients.ask(unpd.address("qotd", kind)) for _ in range(100)]
    assert set(got) == QUOTATIONS
    assert all(got[index] != got[index + 1] for index in range(99))
    assert wait_ended(unpd, {"done": 100}, service="qotd").sent == sum(map(len, got))


def test_a_reload_reads_the_quotations_again(unpd: Unpd, public: Path) -> None:
    """Although the configuration itself is the same. A file that is not good is
    refused, and the old quotations go on. Nobody's pool is replaced for nothing.
    """
    before = unpd.workers()
    reload(unpd)
    assert unpd.workers() == before
    (public / "fortunes").write_text("four\n")
    reload(unpd)
    until(  # an old worker may still take what waited in its queue
        lambda: clients.ask(unpd.address("qotd")) == b"four\r\n", 10.0, "the new quotation"
    )
    until(lambda: not set(before) & set(unpd.workers()), 10.0, "the old worker to leave")
    for content, reason in (("", "holds no quotation"), ("x" * 511, "has 513 bytes")):
        (public / "fortunes").write_text(content)
        assert reason in refused_reload(unpd)
    (public / "fortunes").unlink()
    assert "there is no such file" in refused_reload(unpd)
    assert clients.ask(unpd.address("qotd")) == b"four\r\n"


@serving_longer
def test_a_stop_ends_chargen_in_time(launch: Launch, config: str) -> None:
    """A client that reads gets every byte and the FIN long before the time of the stop
    is over; one that does not read is cut within it.
    """
    unpd = launch(f"[daemon]\ngrace_s = 30\n{config}")
    with clients.connect(unpd.address("chargen")) as sock:
        clients.read_exactly(sock, 100 * len(lines()))
        began = time.monotonic()
        unpd.signal(signal.SIGTERM)
        assert read_pattern(sock) > 0
        assert time.monotonic() - began < 0.5 * 30
    assert unpd.wait_exit() == 0
    assert [e.fields["cause"] for e in unpd.log_events("connection.ended")] == ["shutdown"]


@serving_longer
def test_a_stop_cuts_a_chargen_client_that_does_not_read(launch: Launch, config: str) -> None:
    """Within the time of the stop."""
    unpd = launch(f"[daemon]\ngrace_s = 1\n{config}")
    with clients.connect(unpd.address("chargen"), receive_buffer=1):
        wait_active(unpd, 1, service="chargen")
        began = time.monotonic()
        unpd.signal(signal.SIGTERM)
        assert unpd.wait_exit() == 0
        assert time.monotonic() - began < 1 + LATE_S


def test_a_reload_ends_chargen_within_reload_grace_s(launch: Launch, config: str) -> None:
    """It goes on under the old configuration until then, and its client gets every byte
    and the FIN.
    """
    text = f"[daemon]\nreload_grace_s = 1\n{config}"
    unpd = launch(text)
    with clients.connect(unpd.address("chargen")) as sock:
        clients.read_exactly(sock, 100 * len(lines()))
        old = unpd.workers()
        began = time.monotonic()
        reload(unpd, text.replace("workers = 1", "workers = 1\nmax_connections_per_worker = 9"))
        assert read_pattern(sock) > 0
        assert time.monotonic() - began < 1 + LATE_S
    until(lambda: not set(old) & set(unpd.workers()), 10.0, "the old worker to leave")


def test_slow_readers_of_chargen_cost_little_memory_and_no_processor(unpd: Unpd) -> None:
    """Of 50 that read nothing each costs the worker less than 100 KiB, the worker
    rests, and other clients are served.
    """
    (pid,) = unpd.workers()
    before = procs.private_bytes(pid)
    with clients.idle(unpd.address("chargen"), 50):
        wait_active(unpd, 50, service="chargen")

        def stuck() -> bool:
            sent = service_counts(unpd, "chargen").sent
            clients.converse(unpd.address("echo"), b"x" * 1000)
            return service_counts(unpd, "chargen").sent == sent > 50 * 7030

        until(stuck, 10.0, "all output to be stuck")
        assert procs.private_bytes(pid) - before < 50 * 100 * 1024
        used_s = procs.cpu_s(pid)
        pause(1.0)
        assert procs.cpu_s(pid) - used_s < 0.3


def test_tcpmux_offers_services_of_its_pool(launch: Launch, config: str) -> None:
    """Each over the one port, as over its own; help lists them, another name is
    refused, and the connections are counted for tcpmux.
    """
    unpd = launch(
        f'{config}[services.tcpmux]\nlisten = ["tcp://127.0.0.1:0"]\n'
        'services = ["time", "echo", "discard"]\n'
    )
    address = unpd.address("tcpmux")
    assert clients.converse(address, b"help\r\n") == b"time\r\necho\r\ndiscard\r\n"
    assert clients.converse(address, b"qotd\r\n") == b"-There is no such service\r\n"
    assert len(clients.converse(address, b"time\r\n")) == len("+Go\r\n") + 4
    assert clients.converse(address, b"Discard\r\nhello") == b"+Go\r\n"
    assert clients.converse(address, b"echo\r\n" + bytes(MIB)) == b"+Go\r\n" + bytes(MIB)
    ended = wait_ended(unpd, {"done": 3, "client_fin": 2}, service="tcpmux")
    assert (ended.accepted, service_counts(unpd).accepted) == (5, 0)


@pytest.mark.slow
@pytest.mark.parametrize("path", [False, True], ids=["tcp", "unix"])
def test_the_deadlines_of_the_chosen_service_hold(
    launch: Launch, tmp_path: Path, *, path: bool
) -> None:
    """Until a client of tcpmux chooses, the deadlines of tcpmux hold; after that those
    of the chosen service, which count from the choice.
    """
    listen = f"unix://{tmp_path}/mux.sock" if path else "tcp://127.0.0.1:0"
    unpd = launch(
        f"""
[services.tcpmux]
listen = ["{listen}"]
services = ["echo", "short", "limited"]
idle_timeout_s = 1
session_timeout_s = 1.5

[services.echo]
listen = ["tcp://127.0.0.1:0"]

[services.short]
type = "echo"
listen = ["tcp://127.0.0.1:0"]
idle_timeout_s = 0.1

[services.limited]
type = "echo"
listen = ["tcp://127.0.0.1:0"]
session_timeout_s = 0.3
"""
    )

    def chosen(name: bytes) -> socket.socket:
        sock = clients.connect(unpd.address("tcpmux"), timeout_s=60.0)
        sock.sendall(name + b"\r\n")
        assert clients.read_exactly(sock, 5) == b"+Go\r\n"
        return sock

    with chosen(b"echo") as echo, clients.connect(unpd.address("tcpmux")) as undecided:
        began = time.monotonic()
        for name, at_least, cause in ((b"short", 0.1, "idle"), (b"limited", 0.3, "session_limit")):
            at = time.monotonic()
            with chosen(name) as sock:
                assert clients.read_all(sock) == b""
            assert at_least <= time.monotonic() - at + 0.05
            wait_cause(unpd, cause)
        assert clients.read_all(undecided) == b""
        wait_cause(unpd, "idle", 2)
        # Later than any deadline of tcpmux.
        until(lambda: time.monotonic() > began + 2, 10.0, "the deadlines to be over")
        echo.sendall(b"hello")
        assert clients.read_exactly(echo, 5) == b"hello"


def wait_cause(unpd: Unpd, cause: str, count: int = 1) -> None:
    """Wait until so many connections of tcpmux have ended for ``cause``."""
    unpd.metric_becomes(count, "unpd_connections_ended_total", service="tcpmux", cause=cause)
