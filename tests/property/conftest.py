"""How many examples each law is tried on, and which."""

from __future__ import annotations

import os

from hypothesis import settings

from tests.conftest import IN_CI

# In CI the examples are a function of the test alone, so that a change is judged and not luck.
# Everywhere else each run looks at others, and the seed that is printed repeats it. `proof` is
# the same laws at full size. A test that can afford fewer names its own number.
settings.register_profile(
    "run", max_examples=60, deadline=None, derandomize=IN_CI, print_blob=True, database=None
)
settings.register_profile("proof", settings.get_profile("run"), max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "run"))
