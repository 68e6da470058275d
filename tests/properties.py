"""Sets the number of examples of property tests: a fifth in the quick suite, all of them in `make slow`."""

from hypothesis import settings

settings.register_profile("full", max_examples=100, deadline=None)
settings.register_profile("quick", max_examples=20, deadline=None)
settings.load_profile("quick")  # --hypothesis-profile=full is read after this


def examples(count: int) -> int:
    """So many with `--hypothesis-profile=full`, a fifth of them else."""
    return max(5, count * settings.default.max_examples // 100)
