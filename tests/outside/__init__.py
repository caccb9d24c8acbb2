"""Guarantees of the providers' side."""
