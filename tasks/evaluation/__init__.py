"""Evaluating workflows: run, record, summarise, draw."""
