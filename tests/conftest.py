"""For all tests, before any of them loads torch."""

import os

# Threads that spin where they wait for each other make tests many times slower on cores shared with anything else.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
