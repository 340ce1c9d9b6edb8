"""A models file: which model plays which role, where it is served, and how it is started.

[small]
model = "Qwen/Qwen2.5-Math-1.5B-Instruct"
url = "http://localhost:8001/v1"
active = 1.54e9

[prm]
model = "Qwen/Qwen2.5-Math-PRM-7B"
reward = "qwen"
url = ["http://gpu-1:8003", "http://gpu-2:8003"]     # replicas
active = 7.07e9
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from reasonweave.orchestrator.budget import Rates
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model, RewardModel
from reasonweave.orchestrator.models.endpoint import Endpoint
from reasonweave.orchestrator.models.reward_formats import FORMATS
from reasonweave.orchestrator.models.reward_server import ServerRewardModel
from reasonweave.orchestrator.models.server import ServerModel
from reasonweave.orchestrator.models.spec import open_model


def _urls(value: Any) -> Any:
    """One URL or several; an empty one, as of an unset variable, is none."""
    if not isinstance(value, str | list):
        return value
    found = [url for url in ([value] if isinstance(value, str) else value) if url]
    for url in found:
        if not str(url).startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is no URL; write http://HOST:PORT/v1")
    return found


Urls = Annotated[list[str], BeforeValidator(_urls)]
_SERVED = frozenset(
    {
        "connections",
        "timeout",
        "attempts",
        "key_env",
        "salt",
        "priority",
        "template",
        "vllm",
        "env",
        "port",
        "gpus",
        "shorten",
    }
)
_OURS = frozenset({"model", "host", "port", "served-model-name"})
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


class RoleSpec(BaseModel):
    """One role of a models file. Either `spec`, a model spec such as `lab/small`, or `model` with a `url` or options for
    `reasonweave up` to start it with."""

    model_config = ConfigDict(extra="forbid")

    spec: str | None = None
    """A model spec as on the command line; then nothing about servers is needed."""
    model: str | None = None
    """What the server calls it, and what `up` loads: a name on the hub, or a folder."""
    url: Urls = Field(default_factory=list)
    """Base URL, or several of replicas."""
    key_env: str = "VLLM_API_KEY"
    """The environment variable that holds the API key."""
    reward: Literal["qwen", "tags", "shepherd", "plus-minus", "skywork", "outcome"] | None = None
    """For reward models: the family, which says how it is asked."""
    shorten: bool = False
    """For reward models: whether a solution that does not fit is rated without its oldest steps, instead of not at all."""
    active: float = Field(default=0.0, ge=0)
    """Active parameters, for FLOPs."""
    usd_prompt: float = Field(default=0.0, ge=0)
    usd_cached: float | None = Field(default=None, ge=0)
    usd_completion: float = Field(default=0.0, ge=0)
    """Prices in dollars a million tokens."""
    template: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the chat template, as `enable_thinking = false`."""
    salt: bool = True
    """Whether each problem has a prefix cache of its own, so that no run profits from an earlier one."""
    priority: int | None = None
    connections: int = Field(default=64, ge=1)
    timeout: float = Field(default=600.0, gt=0)
    attempts: int = Field(default=6, ge=1)
    vllm: dict[str, Any] = Field(default_factory=dict)
    """Options of the vLLM server that `up` starts, by their names without dashes in front."""
    env: dict[str, str] = Field(default_factory=dict)
    """Environment of that server."""
    port: int | None = Field(default=None, ge=1, le=65535)
    gpus: list[int] | None = None
    """The GPUs that `up` gives it; default: all."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Its part of those GPUs' memory; default: split by `active` among the roles on them."""

    @model_validator(mode="after")
    def _one_way(self) -> RoleSpec:
        if (self.spec is None) == (self.model is None and not self.url):
            raise ValueError("give either spec, or model and url (or model alone, for `reasonweave up`)")
        if self.spec is not None and (idle := sorted(_SERVED & self.model_fields_set)):
            raise ValueError(f"{', '.join(idle)}: of no effect beside spec; write model and url instead")
        if taken := sorted(_OURS & set(self.vllm)):
            raise ValueError(f"vllm.{taken[0]}: set by reasonweave (a role has a field port)")
        return self

    @property
    def rates(self) -> Rates:
        """Prices a token."""
        million = 1e-6
        return Rates(
            active=self.active,
            usd_prompt=self.usd_prompt * million,
            usd_cached=None if self.usd_cached is None else self.usd_cached * million,
            usd_completion=self.usd_completion * million,
        )

    def endpoint(self) -> Endpoint:
        """Where it is served."""
        return Endpoint(
            self.url,
            key=os.environ.get(self.key_env, "EMPTY"),
            connections=self.connections,
            timeout=self.timeout,
            attempts=self.attempts,
        )

    def open(self, role: str) -> Model | RewardModel:
        """The model of this role. Raises `BadInput` where it is not served anywhere yet."""
        if self.spec is not None:
            model = open_model(self.spec, role=role)
            given = {
                n: v for n in ("active", "usd_prompt", "usd_cached", "usd_completion") if (v := getattr(self.rates, n))
            }
            model.rates = replace(model.rates, **given)
            return model
        if not self.url:
            raise BadInput(
                f"role {role!r}: {self.model} has no url; `reasonweave up FILE` starts it, or --up FILE around one run"
            )
        if self.reward is not None:
            return ServerRewardModel(
                self.model,
                self.endpoint(),
                FORMATS[self.reward],
                role=role,
                rates=self.rates,
                shorten=self.shorten,
            )
        return ServerModel(
            self.model,
            self.endpoint(),
            role=role,
            rates=self.rates,
            template=self.template,
            salt=self.salt,
            priority=self.priority,
        )

    def __str__(self) -> str:
        return self.spec or f"{self.model or ''}@{','.join(self.url)}"


def load(path: Path) -> dict[str, RoleSpec]:
    """Read a models file. `${NAME}` and `${NAME:-default}` stand for environment variables.

    Raises `BadInput` that says what is wrong with which role.
    """
    try:
        data = _filled(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not TOML ({error})") from error
    if not data:
        raise BadInput(f"{path}: there is no role in it")
    return {role: _spec(path, role, found) for role, found in data.items()}


def _spec(path: Path, role: str, found: Any) -> RoleSpec:
    if not isinstance(found, dict):
        raise BadInput(f"{path}: {role!r} is no table; write [{role}] and its fields below")
    try:
        spec = RoleSpec(**found)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        known = ", ".join(RoleSpec.model_fields)
        hint = f"; known fields: {known}" if first["type"] == "extra_forbidden" else ""
        raise BadInput(f"{path}: [{role}] {field + ': ' if field else ''}{first['msg']}{hint}") from None
    if spec.model and (path.parent / spec.model / "config.json").exists():
        spec.model = str((path.parent / spec.model).resolve())  # a folder, seen from the file
    return spec


def _filled(value: Any) -> Any:
    """The value with the environment's variables in its texts."""
    match value:
        case str():
            return _VARIABLE.sub(_variable, value)
        case dict():
            return {name: _filled(each) for name, each in value.items()}
        case list():
            return [_filled(each) for each in value]
    return value


def _variable(match: re.Match[str]) -> str:
    value = os.environ.get(match[1], match[2])
    if value is None:
        raise BadInput(f"the models file needs the environment variable {match[1]}, which is not set")
    return value
