"""All that a run's key hashes beside its recipe: code, numerics, files."""
