"""The guarantees of Tollhouse, one test each."""
