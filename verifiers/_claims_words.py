"""The English that stands around claims: what makes one doubtful, what is a unit, what opens one."""

from __future__ import annotations

OPERATORS = {"times": "*", "plus": "+", "minus": "-", "mod": "mod", "modulo": "mod"}
"""Words that are operators where one may stand."""
TWO_WORD_OPERATORS = {("divided", "by"): "/", ("multiplied", "by"): "*"}
POWERS = {"squared": 2, "cubed": 3}
PERCENT = frozenset({"percent", "percents"})
RELATIONS = {"equals": "="}

FUNCTIONS = frozenset(
    "sqrt abs sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp gcd lcm max min floor ceil".split()
)
"""Functions that are understood: as TeX commands, as words in TeX, and before a bracket in prose."""

_SYNONYMS = {
    "feet": "foot", "ft": "foot", "inches": "inch", "dollar": "$", "buck": "$", "usd": "$", "hr": "hour", "min": "minute",
    "mins": "minute", "sec": "second", "s": "second", "h": "hour", "yd": "yard", "lb": "pound", "oz": "ounce", "kg": "kilogram",
    "cm": "centimeter", "mm": "millimeter", "km": "kilometer", "ml": "milliliter", "people": "person", "children": "child",
    "men": "man", "women": "woman", "mice": "mouse", "geese": "goose", "teeth": "tooth", "halves": "half", "euro": "€",
    "knives": "knife", "loaves": "loaf", "lives": "life", "leaves": "leaf", "wives": "wife", "shelves": "shelf", "oxen": "ox",
    "pence": "penny", "pennies": "penny", "calves": "calf", "wolves": "wolf", "metre": "meter", "litre": "liter",
}  # fmt: skip

TIGHT_UNITS = frozenset(
    "kg cm mm km ml mph kph ft in lb lbs oz hr hrs min mins sec secs yd yds mi gal pt qt mg hz khz kb mb gb tb ha".split()
)
"""Letters that are a unit where they follow a number without a blank: "5kg"."""

SCALES = frozenset(
    "dozen dozens hundred hundreds thousand thousands million millions billion billions trillion trillions score k m b "
    "pair pairs half halves third thirds fourth fourths quarter quarters fifth fifths sixth sixths seventh sevenths eighth "
    "eighths ninth ninths tenth tenths hundredth hundredths thousandth thousandths".split()
)
"""Words that multiply: a number before one of them is not what is written."""

_FACTORS = {
    "time": (60, 3600, 24, 1440, 86400, 7, 168, 12, 4, 52, 365, 30, 31, 10, 100, 1000),
    "length": (12, 3, 36, 5280, 1760, 10, 100, 1000, 144, 9, 10000),
    "weight": (16, 1000, 2000, 14),
    "volume": (2, 4, 8, 16, 3, 32, 64, 128, 1000, 6, 48),
    "money": (100, 10, 20, 4, 25, 5),
}
_MEASURES = {
    "time": "second minute hour day week month year decade century fortnight",
    "length": "inch foot yard mile meter centimeter millimeter kilometer mi",
    "weight": "ounce pound ton gram kilogram mg milligram tonne stone",
    "volume": "cup pint quart gallon ounce teaspoon tablespoon liter milliliter gal pt qt",
    "money": "$ cent penny nickel dime quarter € £",
}
_KIND = {unit: kind for kind, units in _MEASURES.items() for unit in units.split()}

UNIT_ENDS = frozenset(
    "a an the i is are was were be been so then thus hence because since as in on at for and or but with without to from by "
    "which that this these those each every per total altogether overall left remaining more less fewer than when while "
    "where after before if until into out over under he she it they we you his her their its who whose there here also "
    "of now today however therefore respectively exactly only not will would has have had can could makes gives equals "
    "costs sold worth extra again too instead yesterday tomorrow step answer remainder wait both all just yes no".split()
)
"""Words that are no part of a unit, though they follow a number."""

BLOCK_BEFORE = frozenset(
    "times plus minus over per than twice thrice double triple quadruple half third quarter percent percents square cube root "
    "squared cubed factorial negative absolute log ln sin cos tan sqrt gcd lcm gcf lcd max min maximum minimum modulo mod "
    "average mean median reciprocal inverse opposite complement remainder hundred thousand million billion dozen until up down "
    "except not divides base ratio odds version v about approximately around roughly nearly almost floor ceiling digits pages "
    "questions lines chapters rows columns rooms problems exercises ages grades days years sections steps verses".split()
)
"""Words after which what follows is part of something larger, or a label."""

BLOCK_BEFORE_OF = frozenset(
    "half third thirds quarter quarters fourth fourths fifth fifths sixth sixths seventh eighth eighths ninth ninths tenth "
    "tenths percent % square squares cube cubes root roots multiple factor power powers double triple negative reciprocal "
    "inverse opposite dozen dozens hundred hundreds thousand thousands million millions fraction complement logarithm log "
    "pair pairs factors divisors digits average mean median gcd lcm gcf lcd mode range out remainder part percentage rest".split()
)
BLOCK_BEFORE_BY = frozenset(
    "divided multiplied divide multiply dividing multiplying times divides divisible multiplies raised".split()
)

LONE_OPENERS = frozenset(
    "so thus hence therefore then have get gets that since as is gives give because now also obtain obtains find note means "
    "yields indeed check finally but conclude see know implies and factor factorize factoring write writing express compute are "
    "while notice because equation".split()
)
"""After these a bare number may begin a claim: "so 12 = 3 * 4"."""

DOUBT_AFTER = frozenset(
    "divided multiplied squared cubed factorial mod modulo r percent percents percentage out base "
    "half halves third thirds quarter quarters ths if whenever unless remainder".split()
)
"""Words after a claim that go on with its last number, or take it back."""
DOUBT_BEFORE_NUMBER = frozenset("to and or by from versus vs through thru of per times over plus minus".split())
"""Words that do so where a number follows."""

NUMBER_WORDS = frozenset("one two three four five six seven eight nine ten eleven twelve twenty half twice".split())

CONDITIONS = frozenset(
    "if when whenever suppose supposing assume assuming at for case cases either or try trying plug plugging substitute "
    "substituting set setting were would could let's choose unless until try guess say where".split()
)
"""Words with which ``x = 3`` settles x for a while only, or not at all."""

GIVEN = frozenset("let given".split())
"""Words with which a letter is given its value for good: "Let x = 5"."""

DENIED = (
    "contradict", "impossib", "false", "incorrect", "wrong", "absurd", "not equal", "nonsense", "mistake", "error", "extraneous",
    "invalid", "not true", "not valid", "no such", "typo", "inconsistent", "not possible", "instead of", "rather than", "pretend",
)  # fmt: skip
"""What takes a claim back, wherever it stands in its sentence or at the start of the next."""
DENIED_NEAR = (
    "is not", "isn't", "are not", "cannot", "can't", "does not", "doesn't", "suppose", "assume", "assuming", "whether", "were to",
    "never", "if", "unless", "define", "operation",
)  # fmt: skip
"""What does so within two words of it; for an equation in letters, anywhere in its sentence."""
NO_SOLUTION = ("no solution", "no real", "no value", "no root", "fail", "don't", "do not")
"""What is said of an equation in letters that nothing solves."""
MODULAR = ("mod ", "modulo", "mod}", "congruent")
"""What makes equal what is not the same number."""


def stem(word: str) -> str:
    """A unit in one form, singular and plural alike.

    >>> [stem(w) for w in ("apples", "Boxes", "feet", "hrs", "bus", "dollars", "berries")]
    ['apple', 'box', 'foot', 'hour', 'bus', '$', 'berry']
    """
    word = word.lower()
    if word in _SYNONYMS:
        return _SYNONYMS[word]
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("xes", "ches", "shes", "sses")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    return _SYNONYMS.get(word, word)


def factors(units: frozenset[str]) -> frozenset[int]:
    """By what a change of units may multiply where these units are in play: {60, 24, …} for hours, nothing for apples."""
    return frozenset(factor for unit in units if unit in _KIND for factor in _FACTORS[_KIND[unit]])
