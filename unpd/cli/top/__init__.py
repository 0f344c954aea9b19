"""The command ``unpd top``: the status of a running daemon, live in a terminal."""
