"""The metrics: what the exporter reads from the scoreboard, and the pages that show it.
The exporter runs all of it; the master imports it before the fork.
"""
