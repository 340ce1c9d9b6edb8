"""A plugin for reasonweave, one file a part. Its `pyproject.toml` makes the parts known by name."""
