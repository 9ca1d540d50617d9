"""Where the recipes are: inside the package when it was installed, beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

from rapo.errors import ConfigError


def recipe_path(name: str) -> Path:
    """The recipe of this name; raises ConfigError when it is not there."""
    package = Path(__file__).parent
    for folder in (package / "_recipes", package.parents[1] / "recipes"):
        if (path := folder / f"{name}.yaml").is_file():
            return path
    raise ConfigError("the recipe is missing from this installation", got=name, fix="give the path of a recipe")
