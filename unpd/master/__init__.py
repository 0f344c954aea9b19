"""The master: boots, turns the loop, and performs the effects that the core orders. It
never touches a client's bytes.
"""
