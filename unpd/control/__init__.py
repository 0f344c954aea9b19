"""The control socket, over which people and programs give a running daemon its verbs:
one JSON line each way, with a version.
"""
