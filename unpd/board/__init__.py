"""The boards: memory that the master and its children share."""
