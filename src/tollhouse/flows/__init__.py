"""Load facts, ask the core, write the plan: each in one transaction."""
