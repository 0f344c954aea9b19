"""unpd: a preforking super-server for the classic small Internet services.

The version stands here and nowhere else; pyproject.toml reads it. Nothing is imported,
so that ``unpd --version`` costs an interpreter start and no more.
"""

__version__ = "0.1.0"
