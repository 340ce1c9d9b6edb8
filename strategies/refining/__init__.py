"""Refinement: loops in which new answers are written after reading earlier ones."""
