"""The master: it boots, turns the loop, performs what the core decides, and never
touches a client's bytes.
"""
