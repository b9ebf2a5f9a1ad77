"""Which instructions the processor has: they decide what is worth computing how, and what a measurement of speed has to name."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")
MULTIPLY_BFLOAT16 = ("amx_bf16", "avx512_bf16")
SETS = {  # the fastest that the processor has is what its products are made with
    "amx_bf16": "AMX with bfloat16",
    "avx512_bf16": "AVX-512 with bfloat16",
    "avx512f": "AVX-512",
    "avx512_f": "AVX-512",  # torch's name for it
    "avx2": "AVX2",
}


@cache
def flags() -> frozenset[str]:
    """Return the names of what the processor has: as torch tells them, or, where it has no answer, as Linux does."""
    ask = getattr(torch.cpu, "get_capabilities", None)
    if ask is not None:
        return frozenset(name for name, has in ask().items() if has is True)
    return linux_flags()


def linux_flags() -> frozenset[str]:
    """Return the flags of the first core in /proc/cpuinfo; none where there is no such file."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    of_cores = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(of_cores, "").split())


def multiplies_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16. A wrong answer costs time only, see `lrbench.engine.encoder`."""
    return any(name in flags() for name in MULTIPLY_BFLOAT16)


def instructions() -> str:
    """Return the fastest instructions of the processor for people, such as ``"AVX2"``."""
    return next((text for name, text in SETS.items() if name in flags()), "none that lrbench knows")
