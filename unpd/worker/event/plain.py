"""The hot path: small messages of an echo service that go back at once.

The general path (:mod:`unpd.worker.event.stream`) is complete without this module. It
takes 6.1 us of processor time for a round trip of 64 bytes over TCP, this loop 5.6: it
does the same without a call for each part. The engine calls :func:`serve_plain` unless
it was made without. It calls nothing but the targets. A plain
stream is watched for input only, so that each of its events asks for a read.
"""

from collections.abc import Iterable
from os import read, write

from unpd.worker.event.shared import SMALL_READ_BYTES, Shared


def serve_plain(events: Iterable[tuple[int, int]], shared: Shared) -> None:
    """Serve a turn's events: small messages of plain streams here, the rest apart."""
    plain, targets, now = shared.poller.plain, shared.poller.targets, shared.now
    for fd, mask in events:
        stream = plain[fd]
        if stream is None:
            targets[fd].ready(mask)
            now = shared.now  # an order to drain takes its time
            continue
        piece, sent = b"", -1
        try:
            try:
                piece = read(fd, SMALL_READ_BYTES)
                if 0 < len(piece) < SMALL_READ_BYTES:
                    sent = write(fd, piece)
            except OSError as error:
                stream.failed(error, piece)
                continue
            if sent == len(piece):
                stream.received += sent
                stream.sent += sent
                totals = stream.totals
                totals.received += sent
                totals.sent += sent
                stream.session.active_at = now
            else:
                stream.go_on(piece, sent)
        except BaseException as error:  # noqa: BLE001 - the top of a connection
            stream.session.fail(error)
