"""How many examples a property has that is slower, or wants more of them, than others."""

from hypothesis import settings


def examples(n_by_default):
    """So many of the default profile, and of each other one in proportion: a number alone would
    hold for `expensive` too, which then searches no longer than any other."""
    default = settings.get_profile("default").max_examples
    return settings(max_examples=max(1, n_by_default * settings().max_examples // default))
