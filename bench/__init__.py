"""The benchmark: what a call costs with all books kept, beside a bare pass-through in the same minutes."""
