"""Guarantees of the gateway."""
