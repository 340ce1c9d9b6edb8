"""Verifiers: what scores candidates, higher is better."""

if __name__ == "verifiers":
    raise ImportError("install the project (pip install -e .) and import reasonweave.verifiers, not verifiers")

from reasonweave.verifiers.judge import UtilityDigit
from reasonweave.verifiers.prm import PrefixReward, ProcessReward
from reasonweave.verifiers.self_check import SelfCheck

__all__ = ["PrefixReward", "ProcessReward", "SelfCheck", "UtilityDigit"]
