"""Archon (Saad-Falcon et al., 2024, arXiv 2409.15254): its components as strategies, and its published configs as graphs."""

from reasonweave.strategies.archon.carried import Criticised, WithTests, as_asked, criticised
from reasonweave.strategies.archon.conclusion import conclude, distinct
from reasonweave.strategies.archon.critic import Critic
from reasonweave.strategies.archon.fuser import Fuser
from reasonweave.strategies.archon.loading import from_archon, graph_of
from reasonweave.strategies.archon.ranker import Ranked, Ranker
from reasonweave.strategies.archon.unit_tests import AsAsked, UnitTestGenerator
from reasonweave.strategies.archon.verdict import Filter, ReasonedVerdict

__all__ = [
    "AsAsked",
    "Critic",
    "Criticised",
    "Filter",
    "Fuser",
    "Ranked",
    "Ranker",
    "ReasonedVerdict",
    "UnitTestGenerator",
    "WithTests",
    "as_asked",
    "conclude",
    "criticised",
    "distinct",
    "from_archon",
    "graph_of",
]
