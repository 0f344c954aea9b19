"""The rotation: in which order a new client tries the targets of a redirect.

Each client begins with the target behind the one before. A target that failed is left
out for ``retry_s`` while another one is not; if all are left out, they are tried too,
beginning with the one whose time is over first. So a single target is tried by every
client.

Pure: the time is passed in. Owned by the targets of a redirect in one worker. Raises
nothing.

Known gap: each worker has its own rotation and learns of a failure by itself.
"""


class Rotation:
    """The rotation of ``count`` targets, which are numbers from 0 on."""

    def __init__(self, count: int, retry_s: float) -> None:
        self._retry_s = retry_s
        self._back_at = [0.0] * count
        self._first = 0

    def order(self, now: float) -> list[int]:
        """The targets for a new client, each once. ``now``: monotonic seconds."""
        count = len(self._back_at)
        turn = [(self._first + step) % count for step in range(count)]
        turn.sort(key=lambda target: self._left_out_until(target, now))
        self._first = (turn[0] + 1) % count
        return turn

    def failed(self, target: int, now: float) -> None:
        """Leave a target out from now on."""
        self._back_at[target] = now + self._retry_s

    def succeeded(self, target: int) -> None:
        """Take a target in again."""
        self._back_at[target] = 0.0

    def _left_out_until(self, target: int, now: float) -> float:
        """When the target is back; 0 if it is not left out."""
        at = self._back_at[target]
        return at if at > now else 0.0
