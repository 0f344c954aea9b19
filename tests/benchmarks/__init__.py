"""Compares unpd with its peers: the same work in one run, one process against one.
``make bench`` runs it. README.md describes the method.
"""
