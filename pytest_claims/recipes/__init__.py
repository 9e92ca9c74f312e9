"""What a project tells of its claims: recipes of models, profiles, measures."""
