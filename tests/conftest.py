"""Gives each test process one thread: what is computed here is small, and there is a process for each core.

With two threads in each of two processes the tests of this project took four times the CPU time, as threads that wait
for one another spin. On a busy machine it was ten times.
"""

import os

os.environ.update({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})
