"""Echo and daytime on asyncio's protocols, with its own loop or uvloop's: ``python
aio.py asyncio|uvloop ECHO_PORT DAYTIME_PORT``.

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


class Daytime(asyncio.Protocol):
    """Send the line, and end with care."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the line and our FIN."""
        stream = cast(asyncio.Transport, transport)
        stream.write(f"{time.ctime()}\r\n".encode())
        stream.write_eof()
        self.limit = asyncio.get_running_loop().call_later(LINGER_S, stream.abort)

    def connection_lost(self, failure: Exception | None) -> None:
        """Note the end. The client's FIN has come (the default eof_received closes)."""
        self.limit.cancel()


async def serve(echo_port: int, daytime_port: int) -> None:
    """Listen on both ports for ever."""
    loop = asyncio.get_running_loop()
    daytime = await loop.create_server(Daytime, "127.0.0.1", daytime_port, backlog=BACKLOG)
    echo = await loop.create_server(Echo, "127.0.0.1", echo_port, backlog=BACKLOG)
    await asyncio.gather(daytime.serve_forever(), echo.serve_forever())


if __name__ == "__main__":
    if sys.argv[1] == "uvloop":
        importlib.import_module("uvloop").install()
    asyncio.run(serve(int(sys.argv[2]), int(sys.argv[3])))
