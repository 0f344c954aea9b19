"""The configuration: one TOML file, checked as a whole before anything is touched.

:mod:`~unpd.config.load` gives it, :mod:`~unpd.config.schema` says what it holds, :mod:`~unpd.config.plan` what it means. The rest is how it is made:
``source`` (the file) -> ``build`` (the models) -> ``checks`` (across keys), with ``findings`` and ``lines`` for what is wrong, and ``host`` for the machine.
"""
