"""Log events: the table of all, which is public interface."""
