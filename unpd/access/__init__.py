"""Who may come in, as pure functions: rules, times, rates, and the decision.

No module here touches the system or reads a clock; an import contract checks that. The
caller passes in the time, the peer and the counts. The entry is
:mod:`unpd.access.decide`.
"""
