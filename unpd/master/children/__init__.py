"""The children of the master: fork, report, reap."""
