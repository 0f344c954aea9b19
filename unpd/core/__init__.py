"""The master's decisions, pure: ``step(state, event, now) -> (state, effects)``.

Nothing here touches the system or knows its clock; an import contract keeps it so.
:mod:`unpd.core.machine` is the entry.
"""
