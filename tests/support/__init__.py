"""The tests' own tools: a real unpd, processes from /proc, rude clients, a load with a
ledger, faults, a manual clock.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The source tree: programs that the tests start import unpd and the tests from here.
"""
