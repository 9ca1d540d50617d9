"""Whom a person in danger can turn to, by locale: facts in ``resources.yaml`` that must be checked before use."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources as files

import yaml

from rapo.errors import DataError
from rapo.safety.patterns import language_of


def resources(locale: str) -> str:
    """Help lines and emergency numbers as a sentence or two; those of the language where the region has none.

    Args:
        locale: a language or language-REGION, such as ``en`` or ``en-GB``.

    Raises:
        DataError: nothing is known for the language.
    """
    known = _known()
    for name in (locale, language_of(locale)):
        if name in known:
            return known[name]
    raise DataError(
        "there are no safety resources for this locale",
        got=locale,
        expected=f"one of: {', '.join(known)}",
        fix="name them in policy.system_prompt yourself",
    )


def numbers(locale: str) -> list[str]:
    """The telephone numbers among the resources of a locale, without blanks; none where they name no region."""
    return [re.sub(r"\D", "", found) for found in re.findall(r"\d[\d ]+\d", resources(locale))]


def with_resources(prompt: str | None, locale: str) -> str:
    """A system prompt that ends by naming the resources; one that names them already stays as it is."""
    told = f"If someone may be in danger, ask whether they are safe, and tell them: {resources(locale)}"
    if prompt is None:
        return told
    return prompt if told in prompt else f"{prompt}\n\n{told}"


@cache
def _known() -> dict[str, str]:
    return dict(yaml.safe_load(files.files(__package__).joinpath("resources.yaml").read_text(encoding="utf-8")))
