"""The denied networks in shared memory, as readers find them and as nobody else can
write them.
"""

import ctypes
import errno
import gc
import mmap
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unpd.access.network import Network
from unpd.access.ranges import Ranges
from unpd.board.denied import DeniedWriter
from unpd.names import MAX_DENIALS

WIDTHS = {4: 32, 6: 128}


def publish(writer: DeniedWriter, *networks: Network) -> None:
    """Show these networks."""
    v4, v6 = (
        Ranges(family, [each for each in networks if each.family == family]) for family in (4, 6)
    )
    writer.publish(v4.words, v6.words)


@pytest.fixture(name="writer")
def made_writer() -> DeniedWriter:
    """New memory."""
    return DeniedWriter()


def test_nothing_is_denied_at_first(writer: DeniedWriter) -> None:
    """Not even the addresses that are all zeros."""
    assert writer.denied.is_empty
    assert writer.denied.find(4, 0) is None
    assert writer.denied.find(6, 0) is None


def test_a_unix_peer_is_never_denied(writer: DeniedWriter) -> None:
    """It has no address, though its number is that of one."""
    publish(writer, Network.parse("0.0.0.0/0"), Network.parse("::/0"))
    assert writer.denied.find(4, 0) is not None
    assert writer.denied.find(6, 0) is not None
    assert writer.denied.find(0, 0) is None


def test_a_change_holds_at_the_next_look(writer: DeniedWriter) -> None:
    """Each state takes the place of the one before, in both halves of the memory."""
    network = Network.parse("192.0.2.0/24")
    for present in ((network,), (), (network,), (), ()):
        publish(writer, *present)
        assert (writer.denied.find(4, network.first) is not None) is bool(present)
        assert writer.denied.is_empty is not bool(present)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """A network of a small space, so that many begin alike."""
    family = draw(st.sampled_from([4, 6]))
    width = WIDTHS[family]
    number = sum(draw(st.integers(0, 3)) << place for place in (0, width // 2, width - 2))
    bits = draw(st.sampled_from([1, width // 2 - 1, width // 2, width - 2, width]))
    return Network.around(family, number, bits)


@given(st.lists(networks(), max_size=12))
def test_an_address_is_denied_if_a_network_has_it(given_networks: list[Network]) -> None:
    """The first and the last address of each network, and those just outside."""
    writer = DeniedWriter()
    publish(writer, *set(given_networks))
    for network in given_networks:
        for number in (network.first - 1, network.first, network.last, network.last + 1):
            if 0 <= number < 1 << network.width:
                expected = any(each.holds(network.family, number) for each in given_networks)
                assert (writer.denied.find(network.family, number) is not None) is expected


def test_no_child_can_write(writer: DeniedWriter) -> None:
    """A child has the memory for reading only: it finds no other mapping of it, cannot
    make this one writable, and reads what the master writes after the fork.
    """
    gc.collect()  # the runtimes of other tests have such memory too
    read_end, write_end = os.pipe()
    go_read, go_write = os.pipe()
    network = Network.parse("192.0.2.7")
    pid = os.fork()
    if pid == 0:
        try:
            lines = Path("/proc/self/maps").read_text().splitlines()
            ours = [line.split() for line in lines if "memfd:unpd-denied" in line]
            address = int(ours[0][0].partition("-")[0], 16)
            libc = ctypes.CDLL(None, use_errno=True)
            both = mmap.PROT_READ | mmap.PROT_WRITE
            refused = libc.mprotect(ctypes.c_void_p(address), mmap.PAGESIZE, both)
            os.read(go_read, 1)
            seen = writer.denied.find(4, network.first) is not None
            found = [ours[0][1], len(ours), refused, ctypes.get_errno(), seen]
            os.write(write_end, repr(found).encode())
        finally:
            os._exit(0)
    publish(writer, network)
    os.write(go_write, b"x")
    told = os.read(read_end, 1000).decode()
    os.waitpid(pid, 0)
    for fd in (read_end, write_end, go_read, go_write):
        os.close(fd)
    assert told == repr(["r--s", 1, -1, errno.EACCES, True])


def test_to_publish_a_full_list_takes_moments(writer: DeniedWriter) -> None:
    """65,536 networks of each family hold the master up by less than 50 ms, also the
    first time. It takes 2 ms.
    """
    v4, v6 = (
        Ranges(family, {Network(family, number, width) for number in range(0, 2 * MAX_DENIALS, 2)})
        for family, width in WIDTHS.items()
    )
    for _ in range(2):
        begun = time.process_time()
        writer.publish(v4.words, v6.words)
        assert time.process_time() - begun < 0.05
        assert writer.denied.find(4, 2 * MAX_DENIALS - 2) is not None
        assert writer.denied.find(6, 2 * MAX_DENIALS - 2) is not None
        assert writer.denied.find(6, 2 * MAX_DENIALS - 1) is None
