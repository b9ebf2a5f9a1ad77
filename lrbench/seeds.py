"""One seed, several streams: world, data, evaluation, anchors and initialisation never share random numbers.

A salt makes of every seed a number that nobody without the salt can compute.
"""

from __future__ import annotations

import hashlib
import hmac
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lrbench.errors import LrbenchError

if TYPE_CHECKING:
    import torch

SECRET = 1 << 255  # seeds from here on are of a salt
WORDS = 624  # of the state of a Mersenne twister


def derive_seed(seed: int, *stream: str | int) -> int:
    """Return the 63-bit seed of a named stream under ``seed``; streams of different names are independent.

    Parameters
    ----------
    seed
        The seed that the user gave.
    stream
        The stream's name, for instance ``"data", 3`` for the fourth chunk of the data.
    """
    digest = hashlib.sha256(repr((int(seed), *stream)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def salted(seed: int, salt: str) -> int:
    """Return the number that stands for a seed under a salt, of 256 bits, and the seed itself without one.

    Examples
    --------
    >>> salted(3, "")
    3
    >>> salted(3, "between us") == salted(3, "between us"), salted(3, "between us") == salted(3, "other")
    (True, False)
    """
    if not salt:
        return seed
    return int.from_bytes(hmac.digest(_key(salt), repr(int(seed)).encode(), "sha256"), "big") | SECRET


def salt_hash(salt: str) -> str | None:
    """Return what may be told of a salt: the same for the same salt; None for no salt.

    A salt that can be guessed can be tried against it. Take a long random one.
    """
    return hmac.digest(_key(salt), b"salt", "sha256").hex()[:16] if salt else None


@lru_cache(maxsize=8)
def _key(salt: str) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", salt.encode("utf-8", "surrogateescape"), b"lrbench", 200_000)  # slow to guess


def generator(seed: int, *stream: str | int) -> torch.Generator:
    """Return a CPU generator for the named stream; random numbers are drawn on the CPU so that every device sees the same.

    Under a salt its whole state follows from the seed: torch's own seeding takes 32 bits of one, which could all be tried.
    """
    import torch

    drawn = torch.Generator().manual_seed(derive_seed(seed, *stream))
    if seed >= SECRET:
        _fill(drawn, hashlib.shake_256(repr((seed, *stream)).encode()).digest(4 * WORDS))
    return drawn


def _fill(drawn: torch.Generator, words: bytes) -> None:
    """Fill the state of a generator just seeded: 624 words of 32 bits, each in 8 bytes, behind 24 bytes of counters."""
    import torch

    first = torch.Generator().manual_seed(1).get_state()[24:40].view(torch.int64).tolist()
    if first != [1, 1812433254]:  # what a Mersenne twister begins with
        raise LrbenchError("this version of torch keeps its generator in another form: salted worlds need another one")
    state = drawn.get_state()
    wide = torch.frombuffer(bytearray(words), dtype=torch.int32).to(torch.int64) & 0xFFFFFFFF
    state[24 : 24 + 8 * WORDS] = wide.view(torch.uint8)
    drawn.set_state(state)


@contextmanager
def fork_global_generators(seed: int, *stream: str | int) -> Iterator[None]:
    """Seed the global generators of `random`, NumPy and torch by the named stream, and put the old ones back at the end.

    What draws from them by default, such as the first weights of an ``nn.Linear``, then follows from ``seed`` as well.

    Examples
    --------
    >>> import torch
    >>> with fork_global_generators(0, "fit"):
    ...     first = torch.nn.Linear(2, 2).weight
    >>> with fork_global_generators(0, "fit"):
    ...     print(bool((torch.nn.Linear(2, 2).weight == first).all()))
    True
    """
    import numpy as np
    import torch

    own = derive_seed(seed, *stream)
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (for code that uses the global generator)
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count()) if started else ()  # asking a device for its state would start CUDA
    try:
        with torch.random.fork_rng(devices):
            random.seed(own)
            np.random.seed(own % 2**32)  # noqa: NPY002
            torch.default_generator.manual_seed(own)
            if started:
                torch.cuda.manual_seed_all(own)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def global_generators() -> dict[str, Any]:
    """Return where the global generators of `random`, NumPy and torch are, as tensors, numbers, strings and lists."""
    import numpy as np
    import torch

    name, words, *rest = np.random.get_state()  # noqa: NPY002
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(words).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_global_generators(state: dict[str, Any]) -> None:
    """Put the global generators back to where `global_generators` found them."""
    import numpy as np
    import torch

    random.setstate(state["python"])
    name, words, *rest = state["numpy"]
    np.random.set_state((name, words.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])
