"""From a model's entry in the config to a model that can be asked."""

from __future__ import annotations

from collections.abc import Callable

from rapo import plugins
from rapo.config.sections import Calls, ModelSpec, Run
from rapo.models.chat import ChatModel, Scripted
from rapo.models.endpoint import Endpoint
from rapo.models.journal import Journal, Role
from rapo.models.journaled import Journaled
from rapo.models.ledger import Account
from rapo.models.server import Server


def connect(
    spec: ModelSpec,
    journal: Journal,
    role: Role,
    calls: Calls,
    *,
    label: str,
    notice: Callable[[str], None],
    run: Run | None = None,
    servers: dict[str, Server] | None = None,
) -> Journaled:
    """The model of ``spec``, its answers kept in ``journal``.

    Args:
        spec: where it is and how it samples.
        journal: keeps answers and costs; share one object between all models of a run.
        role: on whose behalf it is asked, for the totals.
        calls: budget and patience.
        label: its name under ``models``, for messages.
        notice: told once about each thing the user should know and that stops nothing.
        run: device and number format of a model for this process; None is float32 on the CPU.
        servers: endpoints by label, for whoever asks one in several roles and closes it; receives a new one.

    Raises:
        EndpointError: the address cannot be one.
        ModelError: a model for this process cannot be loaded.
        ConfigError: a function in its place cannot be imported.
    """
    if spec.path is not None:
        model = _local(spec, notice, run or Run())
        return Journaled(model, Account(journal, role, spec, calls, identity(spec)), notice)
    servers = {} if servers is None else servers
    if label not in servers:
        servers[label] = Server(spec, calls, label=label, notice=notice)
    account = Account(journal, role, spec, calls)
    return Journaled(Endpoint(servers[label], account), account, notice)


def identity(spec: ModelSpec) -> str:
    """What tells a model in this process from others at its path: its files, or the code of a function; else ""."""
    if spec.path is None:
        return ""
    if spec.function:
        return plugins.fingerprint(spec.path, "path of a model")
    from rapo.models.source import fingerprint

    return fingerprint(spec.path)


def _local(spec: ModelSpec, notice: Callable[[str], None], run: Run) -> ChatModel:
    if spec.function:
        return Scripted(str(spec.path), plugins.answers(str(spec.path)))
    # Torch takes seconds to load, and endpoints need none.
    from rapo.models.local import LocalModel

    return LocalModel(spec, notice=notice, device=run.device, dtype=run.dtype)
