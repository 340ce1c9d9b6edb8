"""Model specs: `provider/name`, as in `lab/small` or `embedded/path/to/folder`. Providers are entry points."""

from __future__ import annotations

from pathlib import Path

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model, RewardModel
from reasonweave.orchestrator.models.embedded import EmbeddedModel, EmbeddedRewardModel
from reasonweave.orchestrator.registry import find, names


def open_model(spec: str, *, role: str | None = None) -> Model | RewardModel:
    """Open the model that a spec names; `role` is what budgets and tables call it.

    Raises `NotFound` for an unknown provider or name, `BadInput` for a spec without a slash or a folder without a model.
    """
    provider, slash, name = spec.partition("/")
    if not slash or not name:
        raise BadInput(
            f"model {spec!r}: write PROVIDER/NAME, as in lab/small; known providers: {', '.join(names('model provider'))}"
        )
    opened = find("model provider", provider)(name, role=role)
    if not isinstance(opened, Model | RewardModel):
        raise BadInput(f"model {spec!r}: provider {provider!r} returned {type(opened).__name__}, not a model")
    return opened


def embedded(name: str, *, role: str | None = None) -> Model | RewardModel:
    """The provider `embedded`: a folder with a Qwen2 checkpoint, or a process reward model of that architecture."""
    folder = Path(name).expanduser()
    config = folder / "config.json"
    if not config.exists():
        raise BadInput(f"embedded/{name}: there is no {config}")
    reward = "ProcessRewardModel" in config.read_text()
    return (EmbeddedRewardModel if reward else EmbeddedModel)(folder, role=role)
