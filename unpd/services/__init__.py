"""The services: pure plug-ins, bytes in and reply out. A module here sees no socket, no
clock and no file of its own accord.
"""
