"""Tuning: the search for the options of a workflow that are worth their cost (`reasonweave tune`)."""
