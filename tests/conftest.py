"""Helpers that tests of all tiers share are imported from this folder by name: ``from fault_server import ...``."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
# As the command line does, before torch is loaded: two tests at a time share the cores.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
