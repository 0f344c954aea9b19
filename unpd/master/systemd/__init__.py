"""What the master takes from a service manager and tells it."""
