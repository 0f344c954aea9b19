"""The command line: what people type, and what it says to them. Each command is
imported when it runs.
"""
