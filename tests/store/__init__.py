"""Tests of the SQL, by noun."""
