"""Which runs are needed, in which order, and how long they take."""
