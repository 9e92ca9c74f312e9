"""What every other room may use, and imports none of them."""
