"""The processes that make runs on this machine."""
