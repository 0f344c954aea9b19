"""System calls with the facts about them: one topic of the kernel in each module.

A module here decides nothing and logs nothing, and none imports another. They raise
OSError unless their own headers say more; the callers turn it into an event, a counter
or a sentence.
"""
