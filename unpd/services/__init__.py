"""The services: pure plug-ins that turn received bytes into replies.

A module here opens no socket and reads no clock; the engine passes the time and the
bytes in.
"""
