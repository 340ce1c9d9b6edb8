"""What a signature says of its options: where to look for them, and how the command line reads them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonweave.orchestrator.errors import BadInput, NotFound
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.registry import Recipe, Workflow
from reasonweave.orchestrator.space import Between, Fixed, OneOf, Space


def flow(
    small: Model,
    *,
    search: Literal["best-of-n", "beam"] = "best-of-n",
    n: Annotated[int, Between(1, 64, log=True)] = 16,
    width: int = 4,
    first: int = 0,
    keep: float = 0.25,
    threshold: float = 7.0,
    heat: Annotated[float, OneOf(0, 0.4, 0.8)] = 0.8,
    greedy: bool = False,
    level: Literal[1, 2] | None = None,
    seen: Annotated[int, Fixed()] = 3,
    max_tokens: int = 1024,
    word: str = "Wait",
    rule: Any = len,
) -> None:
    """A flow."""


def space_of(make: Any, **fixed: Any) -> Space:
    return Space.of(Recipe("flow", make), fixed)


def test_a_signature_is_read_as_documented() -> None:
    space = space_of(flow)
    found = {axis.name: (axis.within, axis.whole) for axis in space.axes}
    assert found == {
        "search": (OneOf("best-of-n", "beam"), False),
        "n": (Between(1, 64, log=True), True),
        "width": (Between(1, 16, log=True), True),
        "keep": (Between(0, 1), False),
        "heat": (OneOf(0, 0.4, 0.8), False),
        "greedy": (OneOf(False, True), False),
        "level": (OneOf(1, 2, None), False),
    }
    assert space.left == {
        "first": "has no usual range around 0",
        "threshold": "has no usual range around 7.0",
        "seen": "is Fixed",
        "max_tokens": "is a ceiling",
        "word": "is neither a number nor a choice",
        "rule": "is neither a number nor a choice",
    }
    assert space.defaults == {name: Recipe("flow", flow).options[name] for name in found}


def test_what_is_set_is_not_looked_for() -> None:
    space = space_of(flow, n=100, search="beam", word="Hm")  # a range is where to look, not what is allowed
    assert {"n", "search", "word"}.isdisjoint({axis.name for axis in space.axes} | set(space.left))
    assert space.fixed == {"n": 100, "search": "beam", "word": "Hm"}


def test_the_search_begins_with_the_defaults_and_each_other_choice() -> None:
    corners = list(space_of(flow).corners())
    assert corners[0] == space_of(flow).defaults
    changed = [{k: v for k, v in corner.items() if v != corners[0][k]} for corner in corners[1:]]
    assert changed == [{"search": "beam"}, {"heat": 0}, {"heat": 0.4}, {"greedy": True}, {"level": 1}, {"level": 2}]


def nothing(small: Model, *, word: str = "Wait", max_steps: int = 4) -> None: ...
def outside(small: Model, *, n: Annotated[int, Between(1, 8)] = 16) -> None: ...
def unlisted(small: Model, *, vote: Annotated[str, OneOf("a", "b")] = "c") -> None: ...
def half(small: Model, *, n: Annotated[int, Between(0.5, 8)] = 2) -> None: ...
def worded(small: Model, *, vote: Annotated[str, Between(1, 2)] = "a") -> None: ...
def doubled(small: Model, *, n: Annotated[int, Between(1, 2), OneOf(1, 2)] = 1) -> None: ...


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (nothing, "has nothing to tune: word is neither a number nor a choice; max_steps is a ceiling"),
        (outside, "the default of n, 16, is not in 1 to 8"),
        (unlisted, "the default of vote, 'c', is not in a, b"),
        (half, "n is a whole number, and Between(0.5, 8) is not"),
        (worded, "vote is no number, and Between is a range of numbers"),
        (doubled, "n has 2 ranges; one is needed"),
    ],
)
def test_a_space_that_makes_no_sense_is_one_clear_line(make: Any, told: str) -> None:
    with pytest.raises(BadInput) as raised:
        space_of(make)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Between(5, 1), "the smaller one first"),
        (lambda: Between(2, 2), "the smaller one first"),
        (lambda: Between(0, math.inf), "two finite numbers"),
        (lambda: Between("a", "b"), "two finite numbers"),  # type: ignore[arg-type]
        (lambda: Between(0, 1, log=True), "a logarithm needs a range above 0"),
        (lambda: Between(1, 9, step=0), "a step is a number above 0"),
        (lambda: Between(1, 9, log=True, step=2), "not for log=True"),
        (lambda: OneOf(), "one value or more"),
        (lambda: OneOf(1, 2, 1.0), "each once"),
        (lambda: OneOf("a", len), "is no text, number, bool or None"),
    ],
)
def test_a_bad_range_is_refused(make: Any, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        make()


def test_true_is_not_one() -> None:
    assert True not in OneOf(0, 1)
    assert 1.0 in OneOf(0, 1)
    assert True not in Between(0, 1)
    assert OneOf(True, 1).values == (True, 1)


# The command line.


def read(name: str, text: str) -> Any:
    return Recipe("flow", flow).option(name, text)


def test_options_are_read_by_what_is_annotated() -> None:
    assert read("search", "beam") == "beam"
    assert read("n", "100") == 100
    assert read("heat", "0.4") == 0.4
    assert read("level", "2") == 2
    assert read("level", "none") is None
    assert read("greedy", "yes") is True
    assert isinstance(read("n", "3"), int)


def optional(small: Model, *, vote: Optional[Literal["a", True]] = None, n: int | float = 1) -> None:  # noqa: UP045
    ...


def test_unions_and_literals_of_several_types_are_read() -> None:
    recipe = Recipe("optional", optional)
    assert [recipe.option("vote", text) for text in ("a", "true", "none")] == ["a", True, None]
    assert recipe.option("n", "2") == 2
    assert recipe.option("n", "2.5") == 2.5


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        (
            "search",
            "beem",
            "search='beem' is not one of best-of-n, beam; did you mean 'beam'? its default is 'best-of-n'",
        ),
        ("n", "many", "n='many' is no whole number; its default is 16"),
        ("level", "3", "level='3' is neither none nor one of 1, 2; its default is None"),
        ("rule", "len", "rule cannot be set from the command line; its default is <built-in function len>"),
    ],
)
def test_a_value_that_an_option_cannot_have_is_one_clear_line(name: str, text: str, told: str) -> None:
    with pytest.raises(BadInput) as raised:
        read(name, text)
    assert str(raised.value) == f"flow: {told}"


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(NotFound, match="did you mean 'search'"):
        read("serch", "beam")


def required(small: Model, vote: Literal["a", "b"]) -> None: ...


def test_a_choice_without_a_default_is_no_role() -> None:
    with pytest.raises(BadInput, match="'vote' has no default, so it is a role"):
        _ = Recipe("required", required).roles


# Saved workflows.

FLOW = '''
from typing import Annotated, Literal
from reasonweave.orchestrator import Model
from reasonweave.orchestrator.space import Between
from reasonweave.strategies.presets import self_consistency

def vote(small: Model, *, n: Annotated[int, Between(1, 8)] = 2, heat: float = 0.8):
    """Votes."""
    return self_consistency(small, n=n, temperature=heat)
'''


def saved(folder: Path, workflow: str, beside: str | None = None) -> Path:
    entries = [{"name": "t3", "options": {"n": 5}}, {"name": "t7", "options": {"n": 1, "heat": 0.25}}]
    (folder / "front.json").write_text(json.dumps({"workflow": workflow, "beside": beside, "entries": entries}))
    return folder / "front.json"


def test_a_saved_workflow_has_its_options_as_defaults(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(FLOW)
    front = saved(tmp_path, f"{tmp_path}/flows.py:vote")
    found = Workflow.named(f"{front}:t7")
    assert found.name == "t7"
    assert found.summary == "Votes."
    assert found.options == {"n": 1, "heat": 0.25}
    assert list(found.roles) == ["small"]
    assert found.roles["small"] is Model
    assert found.option("n", "4") == 4
    assert repr(found.make(small="s")) == repr(Workflow.named(f"{tmp_path}/flows.py:vote").make("s", n=1, heat=0.25))
    assert "n=3" in repr(found.make(small="s", n=3))  # -S still overrides
    assert Space.of(found).defaults == {"n": 1, "heat": 0.25}  # and it can be tuned again


def test_a_saved_workflow_is_found_beside_its_file_where_its_own_path_is_gone(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(FLOW)
    (tmp_path / "study").mkdir()
    front = saved(tmp_path / "study", "/no/such/folder/flows.py:vote", "../flows.py:vote")
    assert Workflow.named(f"{front}:t3").options == {"n": 5, "heat": 0.8}


def test_what_is_wrong_with_a_saved_workflow_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(FLOW.replace(", heat: float = 0.8", "").replace(", temperature=heat", ""))
    front = saved(tmp_path, f"{tmp_path}/flows.py:vote")
    with pytest.raises(BadInput, match=r"t7 sets heat, and .* has no such option any more"):
        Workflow.named(f"{front}:t7")
    with pytest.raises(BadInput, match=r"name a workflow of it, as .*front.json:t3"):
        Workflow.named(str(front))
    with pytest.raises(NotFound, match=r"no workflow 't4'; did you mean .*Known: t3, t7"):
        Workflow.named(f"{front}:t4")
    with pytest.raises(BadInput, match="cannot be read"):
        Workflow.named(f"{tmp_path}/none.json:t3")
    for text in ("[1]", "{", '{"entries": [3]}', '{"workflow": "single"}'):
        front.write_text(text)
        with pytest.raises(BadInput, match="no front that `reasonweave tune` saved"):
            Workflow.named(f"{front}:t3")


@given(st.integers(1, 1000))
def test_the_usual_range_of_a_whole_number_holds_its_default(default: int) -> None:
    def made(small: Model, *, n: int = default) -> None: ...

    (axis,) = space_of(made).axes
    assert axis.within == Between(1, 4 * default, log=True)
    assert axis.default in axis.within
