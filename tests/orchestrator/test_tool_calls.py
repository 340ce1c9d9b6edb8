from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonweave.orchestrator import (
    BadInput,
    Candidate,
    Candidates,
    FreeText,
    Problem,
    Score,
    Step,
    ToolCall,
    ToolCalls,
    calls_in,
    chain,
    solve,
)
from reasonweave.orchestrator.protocols import AnswerSpace
from reasonweave.orchestrator.testing import ScriptedModel
from reasonweave.strategies import ForceAnswer, ToolCallVote, majority, tool_call_vote, weighted


def tag(*calls: str) -> str:
    return "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in calls)


def call(name: str, arguments: str) -> str:
    return f'{{"name": "{name}", "arguments": {arguments}}}'


def openai(name: str, arguments: str, **extra: str) -> str:
    return json.dumps({"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}} | extra)


ONE = call("f", '{"a": 1, "b": [1, 2]}')

SAME = {
    "itself": (tag(ONE), tag(ONE)),
    "tag and bare": (tag(ONE), ONE),
    "bare object and list": (ONE, f"[{ONE}]"),
    "spaces and lines": (tag(ONE), '<tool_call>{"name":"f","arguments":{"a":1,"b":[1,2]}}</tool_call>'),
    "order of arguments": (ONE, call("f", '{"b": [1, 2], "a": 1}')),
    "order of keys": (ONE, '{"arguments": {"a": 1, "b": [1, 2]}, "name": "f"}'),
    "order of keys deep down": (call("f", '{"a": {"x": 1, "y": 2}}'), call("f", '{"a": {"y": 2, "x": 1}}')),
    "1 and 1.0": (ONE, call("f", '{"a": 1.0, "b": [1, 2.0]}')),
    "1 and 1e0": (ONE, call("f", '{"a": 1e0, "b": [1, 2]}')),
    "0 and -0.0": (call("f", '{"a": 0}'), call("f", '{"a": -0.0}')),
    "100 and 1E2": (call("f", '{"a": 100}'), call("f", '{"a": 1E2}')),
    "escapes": (call("f", '{"a": "é\\n"}'), call("f", '{"a": "\\u00e9\\u000a"}')),
    "slashes": (call("f", '{"a": "x/y"}'), call("f", '{"a": "x\\/y"}')),
    "openai": (ONE, openai("f", '{"a": 1, "b": [1, 2]}')),
    "openai in a list": (ONE, f"[{openai('f', '{}')}]".replace('"{}"', json.dumps('{"b": [1, 2], "a": 1}'))),
    "openai with other ids": (openai("f", "{}", id="x"), openai("f", "{}", id="y")),
    "openai's message": (tag(ONE), json.dumps({"role": "assistant", "content": None, "tool_calls": [json.loads(ONE)]})),
    "openai without arguments": (openai("f", ""), call("f", "{}")),
    "null arguments": (call("f", "null"), call("f", "{}")),
    "no arguments in a tag": (tag('{"name": "f"}'), call("f", "{}")),
    "arguments as a text": (ONE, call("f", json.dumps('{"a": 1, "b": [1, 2]}'))),
    "parameters": (ONE, '{"name": "f", "parameters": {"a": 1, "b": [1, 2]}}'),
    "words around": (tag(ONE), f"I shall look it up.\n{tag(ONE)}\nOne moment."),
    "words around bare calls": (ONE, f"Sure: {ONE} That is all."),
    "a fence": (ONE, f"```json\n{ONE}\n```"),
    "a fence around a list": (ONE, f"```\n[\n{ONE}\n]\n```"),
    "thinking": (ONE, f"<think>Perhaps {call('g', '{}')}?</think>{tag(ONE)}"),
    "thinking that the template opened": (ONE, f"Perhaps {call('g', '{}')}?</think>\n{ONE}"),
    "an end that was cut": (tag(ONE), f"<tool_call>\n{ONE}"),
    "parallel in another order": (tag(ONE, call("g", "{}")), tag(call("g", "{}"), ONE)),
    "parallel as list and tags": (tag(ONE, call("g", "{}")), f"[{ONE}, {call('g', '{}')}]"),
    "parallel in one tag": (tag(ONE, call("g", "{}")), f"<tool_call>\n{ONE}\n{call('g', '{}')}\n</tool_call>"),
    "parallel, a list in the tag": (tag(ONE, call("g", "{}")), f"<tool_call>[{ONE},{call('g', '{}')}]</tool_call>"),
    "parallel, bare, with semicolons": (tag(ONE, call("g", "{}")), f"{ONE}; {call('g', '{}')}"),
    "other JSON before it": (ONE, f'The result was {{"temperature": 5}}.\n{ONE}'),
    "other JSON with a call inside": (ONE, f'It said {{"result": {call("g", "{}")}}}.\n{ONE}'),
    "braces in words": (ONE, f"For {{x}} and [1]: {ONE}"),
    "mathematics": (ONE, rf"Since $\frac{{1}}{{2}}$, \boxed{{x}}: {ONE}"),
    "the tool's description": (
        ONE,
        f'{{"name": "f", "description": "d", "parameters": {{"type": "object"}}}} so {ONE}',
    ),
    "a tag in an argument": (tag(call("f", '{"a": "<tool_call>"}')), tag(call("f", '{"a":"<tool_call>"}'))),
    "Mistral's mark": (ONE, f"[TOOL_CALLS][{ONE}]"),
    "Llama's mark": (ONE, f"<|python_tag|>{ONE}"),
}

DIFFERENT = {
    "names": (call("f", "{}"), call("g", "{}")),
    "case of names": (call("f", "{}"), call("F", "{}")),
    "numbers": (call("f", '{"a": 1}'), call("f", '{"a": 2}')),
    "1 and text": (call("f", '{"a": 1}'), call("f", '{"a": "1"}')),
    "1 and true": (call("f", '{"a": 1}'), call("f", '{"a": true}')),
    "0 and false": (call("f", '{"a": 0}'), call("f", '{"a": false}')),
    "null and nothing": (call("f", '{"a": null}'), call("f", "{}")),
    "null and text": (call("f", '{"a": null}'), call("f", '{"a": "null"}')),
    "nothing and the empty text": (call("f", '{"a": ""}'), call("f", "{}")),
    "the empty list and the empty object": (call("f", '{"a": []}'), call("f", '{"a": {}}')),
    "order in a list": (call("f", '{"a": [1, 2]}'), call("f", '{"a": [2, 1]}')),
    "a list and its only item": (call("f", '{"a": [1]}'), call("f", '{"a": 1}')),
    "a list of pairs and an object": (call("f", '{"a": [["x", 1]]}'), call("f", '{"a": {"x": 1}}')),
    "case of texts": (call("f", '{"a": "Paris"}'), call("f", '{"a": "paris"}')),
    "spaces in texts": (call("f", '{"a": "x"}'), call("f", '{"a": "x "}')),
    "names of arguments": (call("f", '{"a": 1}'), call("f", '{"b": 1}')),
    "one more argument": (call("f", '{"a": 1}'), call("f", '{"a": 1, "b": 1}')),
    "arguments at another depth": (call("f", '{"a": {"b": 1}}'), call("f", '{"b": 1}')),
    "large whole numbers": (call("f", '{"a": 9007199254740993}'), call("f", '{"a": 9007199254740992}')),
    "once and twice": (tag(ONE), tag(ONE, ONE)),
    "twice and twice": (tag(ONE, ONE, call("g", "{}")), tag(ONE, call("g", "{}"), call("g", "{}"))),
    "one and two": (tag(ONE), tag(ONE, call("g", "{}"))),
}

UNREADABLE = {
    "nothing": "",
    "words": "I would call the weather tool.",
    "an empty list": "[]",
    "an empty object": "{}",
    "a number": "4",
    "other JSON": '{"temperature": 5}',
    "a list of other things": "[1, 2, 3]",
    "a name alone, bare": '{"name": "Bob"}',
    "a person": '{"name": "Bob", "age": 3}',
    "an empty tag": "<tool_call></tool_call>",
    "an empty list in a tag": "<tool_call>[]</tool_call>",
    "words in a tag": "<tool_call>weather(Paris)</tool_call>",
    "the tag's name in words": "I use <tool_call> for that.",
    "other JSON in a tag": tag('{"temperature": 5}'),
    "a call that was cut": '{"name": "f", "arguments": {"a": 1',
    "a cut call with a person in it": '{"name": "f", "arguments": {"who": {"name": "Bob", "arguments": {}}',
    "a cut call in a tag": '<tool_call>{"name": "f", "arguments": {"a": "x',
    "a cut list": f"[{ONE}, ",
    "a good call and a cut one": f"{tag(ONE)}<tool_call>{{",
    "a good call and a bad one": tag(ONE, "f(1)"),
    "a good bare call and a cut one": f'{ONE}\n{{"name": "g", "arguments": {{"x": ',
    "words after a call in its tag": f"<tool_call>{ONE} or so</tool_call>",
    "Python": "<tool_call>{'name': 'f', 'arguments': {}}</tool_call>",
    "Python, bare": "{'name': 'f', 'arguments': {}}",
    "a trailing comma": '{"name": "f", "arguments": {"a": 1,}}',
    "a comment": '{"name": "f", "arguments": {} // none\n}',
    "a line in a text": tag('{"name": "f", "arguments": {"a": "x\ny"}}'),
    "not a number": call("f", '{"a": NaN}'),
    "infinity": call("f", '{"a": Infinity}'),
    "too large a number": call("f", '{"a": 1e999}'),
    "a list of arguments": call("f", "[1]"),
    "a number of arguments": call("f", "3"),
    "arguments in words": call("f", '"Paris"'),
    "cut arguments as a text": openai("f", '{"a": '),
    "a list of arguments as a text": openai("f", "[1]"),
    "no name": '{"arguments": {}}',
    "an empty name": call("", "{}"),
    "a number as a name": '{"name": 3, "arguments": {}}',
    "null as a name": '{"name": null, "arguments": {}}',
    "a list of a call and a word": f'[{ONE}, "g"]',
    "only thinking": f"<think>{ONE}</think>",
    "thinking that does not end": f"<think>I could {tag(ONE)}",
    "a tool's description": '{"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}',
    "another format": "<tool_call><function=f><parameter=a>1</parameter></function></tool_call>",
    "deep": "[" * 100_000,
    "deep arguments": call("f", '{"a": ' * 20_000 + "1" + "}" * 20_000),
}


@pytest.mark.parametrize("pair", SAME.values(), ids=SAME)
def test_the_same(pair: tuple[str, str]) -> None:
    space = ToolCalls()
    a, b = (space.extract(text) for text in pair)
    assert a is not None
    assert b is not None
    assert space.same(a, b)
    assert space.canonical(a) == space.canonical(b)
    assert hash(space.canonical(a)) == hash(space.canonical(b))
    assert calls_in(pair[0])
    assert space.same(*pair)  # a reference may be a whole turn


@pytest.mark.parametrize("pair", DIFFERENT.values(), ids=DIFFERENT)
def test_different(pair: tuple[str, str]) -> None:
    space = ToolCalls()
    a, b = (space.extract(text) for text in pair)
    assert a is not None
    assert b is not None
    assert not space.same(a, b)


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_calls_abstain(text: str) -> None:
    assert ToolCalls().extract(text) is None
    assert ToolCalls(by="name").extract(text) is None
    assert Candidate(Problem("q", answers=ToolCalls()), (Step(text, "m", 1),)).answer is None


def test_the_table_is_long_enough() -> None:
    assert len(SAME) + len(DIFFERENT) >= 60


def test_deep_arguments_as_text_are_like_themselves_only() -> None:
    """Fewer levels than JSON's own reader refuses, more than a comparison can go down."""
    space = ToolCalls()
    for depth in (400, 900, 960, 3000):
        deep = openai("f", '{"a": ' * depth + "1" + "}" * depth)
        answer = space.extract(deep)
        assert answer is None or space.same(answer, answer)
        assert answer is None or not space.same(answer, openai("f", "{}"))


def test_names_alone() -> None:
    space = ToolCalls(by="name")
    assert space.same(call("f", '{"a": 1}'), call("f", '{"a": 2}'))
    assert not space.same(call("f", "{}"), call("g", "{}"))
    assert not space.same(tag(ONE), tag(ONE, ONE))
    assert space.same(tag(ONE, call("g", "{}")), tag(call("g", '{"x": 1}'), ONE))


def test_excluded_arguments() -> None:
    space = ToolCalls(excluded=("why", "id"))
    assert space.same(call("f", '{"a": 1, "why": "x"}'), call("f", '{"a": 1, "id": 7}'))
    assert not space.same(call("f", '{"a": {"why": 1}}'), call("f", '{"a": {"why": 2}}'))  # not deep down
    assert not space.same(call("f", '{"a": 1, "why": "x"}'), call("f", '{"a": 2, "why": "x"}'))


def test_in_order() -> None:
    there, back = tag(ONE, call("g", "{}")), tag(call("g", "{}"), ONE)
    assert ToolCalls().same(there, back)
    assert not ToolCalls(ordered=True).same(there, back)
    assert ToolCalls(ordered=True).same(there, there.replace("1, 2", "1.0, 2"))


def test_calls_come_back_in_their_own_words() -> None:
    odd = '{ "name":"f",  "arguments":{"b":2.50,"a":"\\u00e9"} }'
    space = ToolCalls()
    assert space.extract(tag(odd)) == odd
    assert space.extract(f"so: {odd}.") == odd
    assert space.extract(tag(odd, ONE)) == f"[{odd}, {ONE}]"
    assert space.extract(f"[{odd},{ONE}]") == f"[{odd},{ONE}]"
    assert space.extract(f"<tool_call>[{odd}]</tool_call><tool_call>{ONE}</tool_call>") == f"[{odd}, {ONE}]"
    assert calls_in(tag(odd)) == (ToolCall("f", {"b": 2.5, "a": "é"}),)
    assert calls_in(openai("f", '{"a": 1}')) == (ToolCall("f", {"a": 1}),)
    assert calls_in("nothing") == ()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.dictionaries(st.text(max_size=4), JSON_VALUES, max_size=3)


def equal(a: Any, b: Any) -> bool:
    """JSON's equality, written another way."""
    if isinstance(a, bool) or isinstance(b, bool):
        return isinstance(a, bool) and isinstance(b, bool) and a == b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return a == b
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@given(ARGUMENTS, ARGUMENTS, st.booleans(), st.integers(0, 3))
def test_same_is_json_equality(a: dict[str, Any], b: dict[str, Any], ascii_only: bool, form: int) -> None:
    def written(arguments: dict[str, Any]) -> str:
        keys = list(arguments)
        random.Random(form).shuffle(keys)
        text = json.dumps({k: arguments[k] for k in keys}, ensure_ascii=ascii_only)
        turns = (tag(call("f", text)), call("f", text), openai("f", text), f"```json\n[{call('f', text)}]\n```")
        return turns[form]

    space = ToolCalls()
    if any("<think>" in str(x) or "</think>" in str(x) for x in (a, b)):
        return
    one, other, again = (
        space.extract(written(a)),
        space.extract(call("f", json.dumps(b))),
        space.extract(tag(call("f", json.dumps(a)))),
    )
    assert one is not None
    assert other is not None
    assert again is not None
    assert space.same(one, again)
    assert space.same(one, other) == equal(a, b)


@given(st.text(alphabet='{}[]",:naemrgutsfi<>tol_cl/ \n1', max_size=60))
def test_any_text_is_read_without_an_error(text: str) -> None:
    space = ToolCalls()
    answer = space.extract(text)
    if answer is not None:
        json.loads(answer)
        assert calls_in(answer)


def test_what_is_no_option() -> None:
    with pytest.raises(BadInput, match="by is 'name' or 'arguments'"):
        ToolCalls(by="values")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="tuple"):
        ToolCallVote(excluded="why")  # type: ignore[arg-type]
    assert isinstance(ToolCalls(), AnswerSpace)
    assert (
        repr(ToolCallVote("name", vote=weighted))
        == "ToolCallVote(by='name', excluded=(), ordered=False, vote=weighted)"
    )


# Votes.


def turns(*texts: str, scores: tuple[float, ...] = (), space: AnswerSpace | None = None, seed: int = 0) -> Candidates:
    problem = Problem("q") if space is None else Problem("q", answers=space)
    made = [Candidate(problem, (Step(text, "m", 1),), done=True) for text in texts]
    found = Candidates(tuple(made)).scored([Score(s) for s in scores]) if scores else Candidates(tuple(made))
    return Candidates(found.items, seed=seed)


A1, A2, B = call("f", '{"a": 1}'), call("f", '{"a": 2}'), call("g", '{"a": 1}')


def test_a_vote_worked_by_hand() -> None:
    found = tool_call_vote(turns(A1, B, f"Well. {A1.replace('1', '1.0')}", "I do not know", A2))
    assert (found.answer, found.confidence) == (A1, 0.5)
    assert found.items[0].problem == Problem("q")  # the candidates are as they were


def test_by_name_the_arguments_are_voted_on_among_the_winner_s() -> None:
    """g has the most common words, f the most votes; of f's arguments a=2 has most."""
    found = ToolCallVote("name")(turns(B, B, B, A1, A2, A2.replace("2", "2.0"), call("f", '{"a": 3}')))
    assert found.answer in (A2, A2.replace("2", "2.0"))
    assert found.confidence == pytest.approx(4 / 7)


def test_excluded_arguments_are_voted_on_last() -> None:
    def told(a: int, why: str) -> str:
        return call("f", f'{{"a": {a}, "why": "{why}"}}')

    vote = ToolCallVote(excluded=("why",))
    found = vote(turns(told(1, "x"), told(1, "y"), told(1, "y"), told(2, "z"), told(2, "z")))
    assert (found.answer, found.confidence) == (told(1, "y"), 0.6)


def test_every_vote_works_on_tool_calls() -> None:
    space = ToolCalls()
    scored = turns(A1, A1, B, scores=(0.1, 0.2, 0.9), space=space)
    assert majority(scored).answer == A1
    assert weighted(scored).answer == B
    assert ToolCallVote(vote=weighted)(turns(A1, A1, B, scores=(0.1, 0.2, 0.9))).answer == B
    assert ToolCallVote(vote=weighted)(turns(A1, A1, B, scores=(0.1, 0.2, 0.9))).confidence == pytest.approx(0.75)


def test_nobody_calls_anything() -> None:
    found = tool_call_vote(turns("no", "neither"))
    assert (found.answer, found.confidence, len(found)) == (None, None, 2)
    assert tool_call_vote(Candidates()).answer is None


def test_a_tie_is_drawn_by_the_seed_and_order_decides_nothing() -> None:
    drawn = [tool_call_vote(turns(A1, B, seed=seed)).answer for seed in range(400)]
    assert drawn == [tool_call_vote(turns(B, A1, seed=seed)).answer for seed in range(400)]
    assert 150 < drawn.count(B) < 250  # outside by chance once in two million
    named = [ToolCallVote("name")(turns(A1, A2, B, seed=seed)).answer for seed in range(400)]
    assert 150 < named.count(A2) < 250


@given(st.lists(st.sampled_from([A1, A2, B, f"x {A1}", tag(A2, B), tag(B, A2), "no"]), max_size=9), st.integers(0, 5))
def test_order_decides_nothing(texts: list[str], seed: int) -> None:
    for vote in (tool_call_vote, ToolCallVote("name"), ToolCallVote(excluded=("a",)), ToolCallVote(ordered=True)):
        there, back = vote(turns(*texts, seed=seed)), vote(turns(*texts[::-1], seed=seed))
        assert (there.answer, there.confidence) == (back.answer, back.confidence)


def test_a_forced_finish_may_be_a_call() -> None:
    """With a cue that opens a call; the braces that the model leaves open are closed."""
    written = '"name": "f", "arguments": {"a": {"b": 1}}} and so on', '"name": "f", "arguments": {"a": {"b": 1'
    for text in written:
        model = ScriptedModel([text])
        flow = chain(tool_call_vote, finish=ForceAnswer(model, cue="<tool_call>\n{", max_tokens=64))
        result = solve(Problem("q", answers=ToolCalls()), flow)
        assert result.answer is not None
        assert calls_in(result.answer) == (ToolCall("f", {"a": {"b": 1}}),)


def test_free_text() -> None:
    space = FreeText()
    assert space.extract("<think>hm</think> A rose\n is a rose. ") == "A rose\n is a rose."
    assert space.extract("<think>hm") is None
    assert space.same("A rose\n is", " A rose is")
    assert not space.same("A rose", "a rose")
    assert isinstance(space, AnswerSpace)
