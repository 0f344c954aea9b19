"""The dispatcher: UNP's concurrent server. It accepts, forks a process for each client,
and reaps it.
"""
