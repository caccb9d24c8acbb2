"""`/v1`: the vendors' dialects, unchanged for their clients."""
