"""One validated config for a whole run: YAML plus ``section.key=value`` overrides, or a one-line error.

Loads no torch, so that a typing error costs no waiting. Paths are relative to the current folder.
"""

from rapo.config.load import ConfigRow, describe_config, load_config
from rapo.config.run_config import RunConfig
from rapo.config.sections import WORLDS, Calls, ModelSpec, Population

__all__ = ["WORLDS", "Calls", "ConfigRow", "ModelSpec", "Population", "RunConfig", "describe_config", "load_config"]
