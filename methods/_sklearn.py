"""What the scikit-learn baselines share."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
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


@contextmanager
def global_rng_kept() -> Iterator[None]:
    """Put NumPy's global generator back: the lasso solver draws a number from it that its cyclic selection never uses."""
    state = np.random.get_state()  # noqa: NPY002 (scikit-learn offers no other way)
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
