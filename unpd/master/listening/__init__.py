"""Listeners: their sources, and their life over reloads and restarts."""
