"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# No deadline: a loaded two-core machine is no defect. CI repeats the same examples every time.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
