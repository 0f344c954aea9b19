"""Where listeners come from, and what becomes of them over reloads."""
