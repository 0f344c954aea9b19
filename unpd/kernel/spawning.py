"""posix_spawn(3), which begins a program without a copy of this process: the new
process borrows its memory until execve(2).

The module ``os`` has this call, but without two parts of it: the directory of the
program, and signals 32 and 33. The C library keeps these two for itself (nptl(7)), and
has a spawned process ignore them unless it is told not to, which the module refuses.

Owns nothing: descriptors belong to the caller. Called by
:mod:`unpd.dispatcher.launch`. Calls nothing of unpd. Raises OSError with the errno of
whichever step failed.

Known gap: a C library without posix_spawn_file_actions_addclosefrom_np (glibc before
2.34) leaves the closing of descriptors to their close-on-exec flags.
"""

import ctypes
import errno
import os
from collections.abc import Mapping, Sequence

_SETSIGDEF, _SETSIGMASK, _SETSID = 0x04, 0x08, 0x80
"""Flags of posix_spawnattr_setflags(3) in glibc and musl."""
_OBJECT_BYTES = 512
"""More than any C library needs for its attributes (336) or its actions (80)."""
_SIGSET_BYTES = 128

_libc = ctypes.PyDLL(None)


class Spawner:
    """Begins programs that lead a session of their own, with all signals unblocked and
    at their default actions.
    """

    def __init__(self) -> None:
        self._attributes = ctypes.create_string_buffer(_OBJECT_BYTES)
        flags = ctypes.c_short(_SETSIGDEF | _SETSIGMASK | _SETSID)
        _check(_libc.posix_spawnattr_init(self._attributes))
        _check(_libc.posix_spawnattr_setflags(self._attributes, flags))
        every, none = b"\xff" * _SIGSET_BYTES, bytes(_SIGSET_BYTES)
        _check(_libc.posix_spawnattr_setsigdefault(self._attributes, every))
        _check(_libc.posix_spawnattr_setsigmask(self._attributes, none))
        self._close_from = getattr(_libc, "posix_spawn_file_actions_addclosefrom_np", None)
        self._change_directory = getattr(_libc, "posix_spawn_file_actions_addchdir_np", None)

    def spawn(
        self,
        argv: Sequence[bytes],
        variables: Mapping[bytes, bytes],
        directory: bytes,
        fds: Sequence[int],
    ) -> int:
        """Begin ``argv`` with ``fds`` as its descriptors 0, 1, 2 and so on; return its
        pid. The ``fds`` must be greater numbers than these.
        """
        if self._change_directory is None:  # glibc before 2.29
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        actions = ctypes.create_string_buffer(_OBJECT_BYTES)
        _check(_libc.posix_spawn_file_actions_init(actions))
        try:
            for number, fd in enumerate(fds):
                _check(_libc.posix_spawn_file_actions_adddup2(actions, fd, number))
            if self._close_from is not None:
                _check(self._close_from(actions, len(fds)))
            _check(self._change_directory(actions, directory))
            pid = ctypes.c_int()
            words = [b"%b=%b" % pair for pair in variables.items()]
            environment, arguments = _strings(words), _strings(argv)
            _check(
                _libc.posix_spawn(
                    ctypes.byref(pid), argv[0], actions, self._attributes, arguments, environment
                )
            )
        finally:
            _libc.posix_spawn_file_actions_destroy(actions)
        return pid.value


def _strings(words: Sequence[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    """An array of C strings, with a null pointer at its end."""
    return (ctypes.c_char_p * (len(words) + 1))(*words, None)


def _check(number: int) -> None:
    """These calls return an errno, and do not set it."""
    if number:
        raise OSError(number, os.strerror(number))
