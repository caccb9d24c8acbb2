"""The rules of Tollhouse: pure functions and values. No I/O, no clock, no environment."""
