"""Your own group statistics and migration policies, compiled by Numba and run at C speed.

Needs the extra `jit`: `pip install '.[jit]'`; without it, importing this raises
`MissingPackageError`. docs/jit.md says when it is worth it.
"""

from mempattern.errors import MissingPackageError

try:
    import numba as _numba  # noqa: F401 - an extra, asked for by who imports this package
except ImportError:
    raise MissingPackageError(
        "compiling your own functions needs the package numba: pip install 'mempattern[jit]'"
    ) from None

from mempattern.jit.native import group_counts, popcount
from mempattern.jit.policies import PASS, Policy, policy
from mempattern.jit.reducers import GroupReducer, GroupReduction, group_reducer

__all__ = [
    "GroupReducer",
    "GroupReduction",
    "PASS",
    "Policy",
    "group_counts",
    "group_reducer",
    "policy",
    "popcount",
]
