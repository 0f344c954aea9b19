"""Exposition: what the exporter reads off the scoreboard, and the HTTP side that shows
it. Runs in the exporter; imported by the master before the fork.
"""
