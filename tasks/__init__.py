"""Tasks: benchmarks, the lab, evaluation and the command line."""

if __name__ == "tasks":
    raise ImportError("install the project (pip install -e .) and import reasonweave.tasks, not tasks")
