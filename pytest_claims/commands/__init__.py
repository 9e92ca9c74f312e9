"""What `python -m pytest_claims` does."""
