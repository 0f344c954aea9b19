"""The boards: memory that master and children share."""
