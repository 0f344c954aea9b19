"""The tools of the tests: real daemons, fake services around them, clients, loads,
faults, and a manual clock. Every test directory uses them.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The source tree. Programs that the tests start import unpd and the tests from here.
"""
