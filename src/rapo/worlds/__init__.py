"""Scripted worlds with hidden state: everything runs offline in them, and what a reply did can be verified."""

from __future__ import annotations

from rapo.errors import ConfigError
from rapo.worlds.world import World


def load_world(name: str) -> World:
    """The embedded world of this name; raises ConfigError when there is none."""
    if name == "support":
        from rapo.worlds.support.world import WORLD
    elif name == "bargaining":
        from rapo.worlds.bargaining.world import WORLD
    else:
        raise ConfigError("there is no such embedded world", got=name, expected="support or bargaining")
    return WORLD
