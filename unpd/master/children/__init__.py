"""The children of the master: their kinds, their fork, their reports, their reap."""
