"""Signs of risk in what people say: finding them, what a reply to them should do, and whom to point to.

Everything here is a screening aid for research data and reads words only: no clinical instrument, no statement about a
person. ``docs/safety.md`` has its measured shares of what it misses and what it finds without reason.
"""

from __future__ import annotations

from rapo.safety.cues import Cue, Detector, detector
from rapo.safety.resources import resources
from rapo.safety.screening import risky
from rapo.safety.situations import Situation, draw, situations

__all__ = ["Cue", "Detector", "Situation", "detector", "draw", "resources", "risky", "situations"]
