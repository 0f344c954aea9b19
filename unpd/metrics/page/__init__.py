"""The status page of the exporter: one snapshot, shown as HTML and as JSON."""
