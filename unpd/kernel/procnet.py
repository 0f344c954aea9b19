"""Reads /proc/net/tcp and tcp6 (proc(5)): whether a TCP listener is still open
somewhere, after we have closed our own descriptor of it.

Owns nothing. Called by unpd.master.listening. Calls nothing of unpd. Raises nothing.

Known gap: where /proc has no net (ProcSubset=pid of systemd.exec(5)), every listener
counts as open.
"""

_FILES = ("/proc/net/tcp", "/proc/net/tcp6")
_LISTENING = "0A"
_STATE, _INODE = 3, 9


def is_open(inode: int) -> bool:
    """Whether a process of this network namespace has a listener with the inode that
    fstat(2) gave for its descriptor.
    """
    try:
        return any(_lists(name, str(inode)) for name in _FILES)
    except OSError:
        return True


def _lists(name: str, inode: str) -> bool:
    with open(name, encoding="ascii") as lines:
        next(lines, "")  # the heads of the columns
        for line in lines:
            fields = line.split()
            if fields[_STATE] != _LISTENING:
                return False  # the kernel lists all listeners first (tcp_seq_start())
            if fields[_INODE] == inode:
                return True
    return False
