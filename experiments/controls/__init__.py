"""Models that are surely worse than another, or surely as good: what controls compare, and how it is made."""
