"""The master's decisions as a pure function: ``step(state, event, now)``, which returns
the next state and the effects.

No module here touches the system or reads a clock; an import contract checks that. The
entry is :mod:`unpd.core.machine`.
"""
