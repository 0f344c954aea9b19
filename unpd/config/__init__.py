"""The configuration: a TOML file and its drop-ins, checked as a whole before anything
is changed.

:mod:`~unpd.config.load` loads it, :mod:`~unpd.config.schema` defines what it holds,
:mod:`~unpd.config.times` and :mod:`~unpd.config.plan` derive from it what others need.
The other modules are the steps of a load: ``dropins`` (finds the files) -> ``source``
(reads a file) -> ``merge`` (joins their tables) -> ``build`` (makes the models) ->
``checks`` (compares keys with each other and with the machine). ``findings``,
``origins`` and ``lines`` collect the faults with their files and lines. ``syntax`` and
``foreign`` know what people write by mistake, ``wording`` quotes words, and ``host``
describes the machine.
"""
