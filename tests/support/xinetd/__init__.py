"""A real xinetd for the differential test of access rules.

``rules`` has the attributes of a service and writes them for both daemons, ``model``
says what xinetd does with them, ``pairs`` generates rules with visits, ``daemon``
starts xinetd and moves the clock, and ``visits`` pays the visits.
"""
