"""What the scikit-learn baselines share."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from sklearn.exceptions import ConvergenceWarning

from lrbench.seeds import derive_seed


def random_state(seed: int) -> int:
    """Return the 32-bit seed of the initialisation stream."""
    return derive_seed(seed, "init") % 2**32


@contextmanager
def ended_by_budget() -> Iterator[None]:
    """Let a fit end on its number of iterations without a warning: what it has found by then is what is scored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
