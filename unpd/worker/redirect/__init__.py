"""Redirects: a worker connects each client with a target and relays the bytes."""
