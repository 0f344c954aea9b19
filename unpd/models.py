"""What we use of pydantic, imported without what it brings for uses that are not ours;
the first import of pydantic in the program has to be this one.

It brings hashes (OpenSSL's, too) and random numbers for secrets, and package metadata,
zip files and mail to find plug-ins among the installed packages. We have no secrets,
and a daemon that starts as root loads no code because it lies there. Without them the
daemon's four processes are 4 MB smaller together (PSS).
"""

from unpd.lean import replaced

__all__ = [
    "AfterValidator",
    "BaseModel",
    "BeforeValidator",
    "ConfigDict",
    "ErrorDetails",
    "Field",
    "SerializeAsAny",
    "ValidationError",
]

with replaced("importlib.metadata", "secrets"):
    from pydantic import (
        AfterValidator,
        BaseModel,
        BeforeValidator,
        ConfigDict,
        Field,
        SerializeAsAny,
        ValidationError,
        create_model,
    )
    from pydantic_core import ErrorDetails

    create_model("FirstOfAll")  # what a model needs is imported when the first is made
