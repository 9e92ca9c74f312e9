"""How measured numbers become a verdict."""
