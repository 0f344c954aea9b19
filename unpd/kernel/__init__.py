"""One kernel topic a module: system calls with their facts. No decisions, no logging;
the modules do not import each other.
"""
