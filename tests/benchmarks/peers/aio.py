"""Echo and a second service on asyncio's protocols, with its own loop or uvloop's:
``python aio.py asyncio|uvloop ECHO_PORT PORT daytime|time|udp``.

It uses protocols and not streams, because they are faster. A BufferedProtocol over one
shared buffer of 512 KiB is slower in bulk on either loop: what is written has to be
copied out of it first, because the transport may keep it. Reading pauses while much
output is pending. The daytime connection gets its line, our FIN, and up to two seconds
for the client's.
"""

import asyncio
import importlib
import sys
import time
from typing import cast

BACKLOG = 4096
LINGER_S = 2.0
EPOCH_S = 2_208_988_800
HIGH_WATER_BYTES, LOW_WATER_BYTES = 256 * 1024, 64 * 1024
"""As unpd's and the epoll server's. In bulk, over the epoll server's rate: uvloop 0.80
with its own limits (64 and 16 KiB), 0.79 with these, 0.83 with twice these, which is
within the noise. Round trips do not differ.
"""


class Echo(asyncio.Protocol):
    """Send back what arrives."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(
            asyncio.Transport, transport
        )  # uvloop's loop is not one of asyncio's classes
        self.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=LOW_WATER_BYTES)

    def data_received(self, data: bytes) -> None:
        """Send the data back."""
        self.transport.write(data)

    def pause_writing(self) -> None:
        """Stop reading, because much output is pending."""
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Resume reading."""
        self.transport.resume_reading()


class EchoDatagrams(asyncio.DatagramProtocol):
    """Send each datagram back."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Send the datagram back."""
        self.transport.sendto(data, addr)


class Daytime(asyncio.Protocol):
    """Send the line, and end with care."""

    def line(self) -> bytes:
        """The bytes that the client gets."""
        return f"{time.ctime()}\r\n".encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the line and our FIN."""
        stream = cast(asyncio.Transport, transport)
        stream.write(self.line())
        stream.write_eof()
        self.limit = asyncio.get_running_loop().call_later(LINGER_S, stream.abort)

    def connection_lost(self, failure: Exception | None) -> None:
        """Note the end. The client's FIN has come (the default eof_received closes)."""
        self.limit.cancel()


class Time(Daytime):
    """Send the four bytes of RFC 868, and end with care."""

    def line(self) -> bytes:
        """The bytes that the client gets."""
        return (int(time.time()) + EPOCH_S).to_bytes(4, "big")


async def serve(echo_port: int, port: int, service: str) -> None:
    """Listen on both ports for ever."""
    loop = asyncio.get_running_loop()
    here = ("127.0.0.1", port)
    if service == "udp":
        await loop.create_datagram_endpoint(EchoDatagrams, local_addr=here)
    else:
        second = Time if service == "time" else Daytime
        await loop.create_server(second, *here, backlog=BACKLOG)
    echo = await loop.create_server(Echo, "127.0.0.1", echo_port, backlog=BACKLOG)
    await echo.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "uvloop":
        importlib.import_module("uvloop").install()
    asyncio.run(serve(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
