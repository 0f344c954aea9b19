"""The catalogue of metrics: the table of all, which is public interface."""
