"""The configuration: a TOML file and its drop-ins, checked as a whole before anything
is touched.

:mod:`~unpd.config.load` gives it, :mod:`~unpd.config.schema` says what it holds,
:mod:`~unpd.config.plan` what it means. The rest is how it is made: ``dropins`` (which
files) -> ``source`` (a file) -> ``merge`` (one table of all) -> ``build`` (the models)
-> ``checks`` (across keys), with ``findings``, ``origins`` and ``lines`` for what is
wrong where, and ``host`` for the machine.
"""
