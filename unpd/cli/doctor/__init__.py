"""``unpd doctor``: looks at the host, and says what is wrong for unpd and how to mend
it.

:mod:`unpd.cli.doctor.gather` reads the facts once. The checks are pure functions over
them, in a module for each topic, and rows of :data:`unpd.cli.doctor.table.CHECKS`.
:mod:`unpd.cli.doctor.command` runs them and prints the report.
"""
