"""The training loop, what a builder is given, and checkpoints of interrupted trainings."""
