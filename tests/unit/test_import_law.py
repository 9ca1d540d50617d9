"""Who may import whom: the law in CONTRIBUTING.md, checked on every import statement, lazy ones included."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import rapo

ROOT = Path(rapo.__file__).parent
GROUND = ("rapo.types", "rapo.errors")
LIGHT = (
    *GROUND,
    "rapo.config",
    "rapo.yaml_text",
    "rapo.prompts",
    "rapo.records",
    "rapo.interact",
    "rapo.hindsight",
    "rapo.safety",
)
HEAVY = ("torch", "transformers", "safetensors", "accelerate", "vllm")
JOINERS = ("rapo.trainer", "rapo.teacher", "rapo.supervised", "rapo.stages", "rapo.cli")
WORLDS_MAY = (
    "rapo.worlds",
    *GROUND,
    "rapo.seeds",
    "rapo.hindsight.feedback",
    "rapo.interact.users",
    "rapo.interact.play",
)
# Who may not import what, one line per article of the law.
FORBIDDEN = [
    (LIGHT, HEAVY),
    (("rapo.hindsight",), ("rapo.interact",)),
    (("rapo.optimize.losses", "rapo.optimize.packing"), ("rapo.config",)),
    (("rapo.evals",), ("rapo.hindsight", "rapo.optimize")),
]


def within(name: str, rooms: tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def imports(module: str, source: str, modules: frozenset[str]) -> Iterator[str]:
    """The full name of everything ``module`` imports; ``from a import b`` is a.b where that is a module, else a."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], base]).rstrip(".")
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base


def violations(sources: Mapping[str, str]) -> list[str]:
    """Every broken article as "importer -> imported", for sources by module name."""
    found = []
    for module, source in sources.items():
        imported = set(imports(module, source, frozenset(sources)))
        bad = {name for who, what in FORBIDDEN if within(module, who) for name in imported if within(name, what)}
        if within(module, GROUND):
            bad |= {
                name for name in imported if name.split(".")[0] not in sys.stdlib_module_names and name not in GROUND
            }
        if within(module, ("rapo.worlds",)):
            bad |= {name for name in imported if within(name, ("rapo",)) and not within(name, WORLDS_MAY)}
        if not within(module, JOINERS):
            met = imported | {module}
            play = {name for name in met if within(name, ("rapo.interact", "rapo.hindsight"))}
            learn = {name for name in met if within(name, ("rapo.optimize",))}
            bad |= (play | learn) - {module} if play and learn else set()
        found += [f"{module} -> {name}" for name in sorted(bad)]
    return found


def sources_on_disk() -> dict[str, str]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return found


def test_the_code_keeps_the_law():
    assert violations(sources_on_disk()) == []


@pytest.mark.parametrize(
    ("module", "source", "imported"),
    [
        ("rapo.types", "import numpy", "numpy"),
        ("rapo.errors", "from rapo.config import load_config", "rapo.config"),
        ("rapo.config", "def f():\n    import torch.nn", "torch.nn"),
        ("rapo.prompts", "from transformers import AutoTokenizer", "transformers"),
        ("rapo.interact.rollout", "if True:\n    from torch import nn", "torch"),
        ("rapo.hindsight.selection", "from rapo.interact import users", "rapo.interact.users"),
        ("rapo.hindsight.selection", "from ..interact.users import UserSimulator", "rapo.interact.users"),
        ("rapo.optimize.losses", "from rapo.config import Update", "rapo.config"),
        ("rapo.optimize.packing", "from rapo import config", "rapo.config"),
        ("rapo.optimize.sft", "from rapo.hindsight.feedback import Verdict", "rapo.hindsight.feedback"),
        ("rapo.interact.users", "def f():\n    from rapo.optimize import losses", "rapo.optimize.losses"),
        ("rapo.evals.suite", "import rapo.hindsight.feedback", "rapo.hindsight.feedback"),
        ("rapo.worlds.support.seeker", "from rapo.config import RunConfig", "rapo.config"),
        ("rapo.worlds.support.seeker", "from rapo.interact.replay import Replay", "rapo.interact.replay"),
    ],
)
def test_a_planted_violation_is_found(module, source, imported):
    modules = dict.fromkeys(["rapo.interact.users", "rapo.config", "rapo.optimize.losses"], "")
    assert violations({**modules, module: source}) == [f"{module} -> {imported}"]


def test_one_module_that_joins_is_found_and_the_trainer_may():
    source = "from rapo.interact.users import UserSimulator\nfrom rapo.optimize.losses import grpo"
    assert violations({"rapo.report.html": source}) == [
        "rapo.report.html -> rapo.interact.users",
        "rapo.report.html -> rapo.optimize.losses",
    ]
    assert violations({"rapo.trainer": source, "rapo.cli": source}) == []


def test_the_light_rooms_load_no_torch_even_indirectly():
    light = [name for name in sources_on_disk() if within(name, LIGHT) or name in {"rapo", "rapo.cli"}]
    code = f"import importlib, sys\nfor name in {light}: importlib.import_module(name)\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
