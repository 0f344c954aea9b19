"""unpd beside its peers: the same work in one run, one process against one. ``make
bench``; README.md tells how it measures.
"""
