"""Where tests find the project's files, whatever folder they lie in."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = ROOT / "tests" / "fixtures"
SHARED = ROOT.parent / "shared"
"""Real rows of the public benchmarks beside the checkout. Tests that want them are skipped where they are not there."""
