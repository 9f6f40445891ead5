"""Captures on disk, turned into flows: vectorised where packets are regular, exact where not."""

import os

# numpy starts a thread per core for its linear algebra, of which nothing here makes use; starting
# them takes as long as all of numpy's import. Whoever wants them says so in the environment.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
