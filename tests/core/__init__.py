"""Guarantees of the rules."""
