"""The command line: the commands that people type, and the messages that they get. Each
command is imported when it runs.
"""
