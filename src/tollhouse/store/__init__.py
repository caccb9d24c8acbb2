"""All SQL, by noun. Functions take a transaction and give frozen values; they decide nothing and never commit."""
