"""The service manager: its offers to the master, and the master's messages to it."""
