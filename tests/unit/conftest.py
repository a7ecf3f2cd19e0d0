"""Laws run against many examples; a slow machine is no failure, the time limit of a test is enough."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unit", deadline=None, max_examples=80)
settings.load_profile("unit")
