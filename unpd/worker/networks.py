"""How much each source network may be sent: the rule that keeps forged datagrams from
flooding a victim.

The bytes sent to a network are at most ``amplification`` times those that came from it,
headers counted, as RFC 9000 section 8.1 has it for QUIC; and at most ``rate`` answers
within a second go to it. A sender can forge its address, but not what it has to send
for that. A flood of random sources stays below ``rate`` in each network, so a token
bucket bounds the answers to all networks together: it holds ``total_rate`` tokens, and
so many come a second.

The memory is bounded, whatever the flood: a network is remembered for one to two
seconds after its last datagram, and at most MAX_NETWORKS of them in each second. All
others of that second share one entry, so that a flood of random sources neither grows
the table nor pushes a network out of it.

Owns the table of one service in one worker. Called by the datagram sockets of the
worker, which pass the time in. Calls nothing. Raises nothing.

Known gap: when forged sources empty the bucket, honest ones get no answer either.
"""

import math
from dataclasses import dataclass

from unpd.names import Unanswered

WINDOW_S = 1.0
MAX_NETWORKS = 4096
OTHERS = b""
"""The key of the entry that all networks share for which there is no room."""


@dataclass(slots=True)
class Network:
    """One source network. ``credit``: how many bytes it may still be sent, headers
    counted. ``answers``: how many went to it in this window, ``earlier`` in the one
    before.
    """

    credit: float = 0.0
    answers: int = 0
    earlier: int = 0


class Networks:
    """The networks of the present window and of the one before."""

    def __init__(self, amplification: float, rate: int, now: float, *, total_rate: int = 0) -> None:
        """``rate``: answers a second to one network, 0 for any number. ``total_rate``:
        to all networks, likewise. ``now``: monotonic seconds.
        """
        self._amplification = amplification
        self._rate = rate or math.inf
        self._total_rate = self._tokens = float(total_rate or math.inf)
        self._filled_at = now
        self._present: dict[bytes, Network] = {}
        self._before: dict[bytes, Network] = {}
        self._began_at = now

    def __len__(self) -> int:
        """How many entries the table holds."""
        return len(self._present) + len(self._before)

    def received(self, key: bytes, size: int, now: float) -> Network:
        """Note a datagram of ``size`` bytes, headers counted, from the network ``key``;
        return the entry of the network.
        """
        if now - self._began_at >= WINDOW_S:
            self._turn_over(now)
        network = self._present.get(key)
        if network is None:
            network = self._enter(key)
        network.credit += self._amplification * size
        return network

    def _enter(self, key: bytes) -> Network:
        """Return the entry of a network that is new in this window."""
        network = self._before.pop(key, None)
        if network is not None:
            network.earlier, network.answers = network.answers, 0
        elif len(self._present) >= MAX_NETWORKS:
            network = self._present.get(OTHERS) or self._enter_others()
            # Networks that share the entry share no credit: each could be the victim.
            network.credit = 0.0
            return network
        else:
            network = Network()
        self._present[key] = network
        return network

    def _enter_others(self) -> Network:
        network = self._before.pop(OTHERS, None) or Network()
        network.earlier, network.answers = network.answers, 0
        self._present[OTHERS] = network
        return network

    def refusal(self, network: Network, now: float) -> Unanswered | None:
        """The rate that allows no answer more, or None. Of the earlier window counts
        the part that lies within the last second.
        """
        passed = (now - self._began_at) / WINDOW_S
        if network.answers + network.earlier * (1.0 - passed) >= self._rate:
            return Unanswered.RATE
        if now > self._filled_at:
            tokens = self._tokens + (now - self._filled_at) * self._total_rate
            self._tokens = min(tokens, self._total_rate)
            self._filled_at = now
        return None if self._tokens >= 1.0 else Unanswered.TOTAL_RATE

    def allowed(self, size: int) -> int:
        """How many bytes the answer may have to a datagram of ``size`` bytes, headers
        counted, whatever earlier ones of its network have left over.
        """
        return int(self._amplification * size)

    def spend(self, network: Network, size: int) -> bool:
        """Whether the network may be sent ``size`` bytes, headers counted. If so, the
        answer is noted.
        """
        if size > network.credit:
            return False
        network.credit -= size
        network.answers += 1
        self._tokens -= 1.0
        return True

    def _turn_over(self, now: float) -> None:
        """Begin a new window; forget what is older than the one before."""
        missed = now - self._began_at >= 2 * WINDOW_S
        self._before = {} if missed else self._present
        self._present = {}
        self._began_at = now if missed else self._began_at + WINDOW_S
