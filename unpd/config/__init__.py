"""The configuration: a TOML file and its drop-ins, checked as a whole before anything is touched.

:mod:`~unpd.config.load` gives it, :mod:`~unpd.config.schema` says what it holds, :mod:`~unpd.config.plan` what it means. The rest is how it is made:
``dropins`` (which files) -> ``source`` (a file) -> ``merge`` (one table of all) -> ``build`` (the models) -> ``checks`` (across keys), with ``findings``,
``origins`` and ``lines`` for what is wrong where, and ``host`` for the machine.

Here pydantic is imported, first of all, without what it brings for secrets (OpenSSL) and for plug-ins that it finds among the installed packages (their metadata, zip
files, mail): none of it is ours, a daemon that starts as root loads no code because it lies there, and so it is 3 MB smaller and ready 20 ms sooner.
"""

from unpd.lean import StandIn, replaced, without_openssl

with replaced({"importlib.metadata": StandIn("importlib.metadata"), **without_openssl()}):
    import pydantic.types

    pydantic.create_model("FirstOfAll")  # what a model needs is imported when the first is made
