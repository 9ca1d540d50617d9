"""Helpers that tests of all tiers share are imported from this folder by name: ``from fault_server import ...``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
