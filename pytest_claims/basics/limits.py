"""Constants that both options and what they choose need, told without importing anything."""

THREADS_PER_RUN = 1
"""A constant: the number of threads changes sums, and one a run uses a machine best when several run side by side."""

MOST_SEEDS = 1000
"""No more seeds than this are ever proposed, or taken."""

LOCAL = "local"
"""In place of a cluster's address: Ray is started on this machine, for this session."""
