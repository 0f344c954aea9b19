"""The control socket: one JSON line each way, with a version."""
