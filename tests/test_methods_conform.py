"""Every method of the catalogue, with its anchored twin and some of the others, keeps the contract that `lrbench check` tests."""

from __future__ import annotations

import pytest

from lrbench.catalogue.methods import method_catalogue
from lrbench.catalogue.source import MethodInfo
from lrbench.contract.check import check_method

# These twins train two or three times each; what they add is the same code for every method.
LONG = ("resample", "autoanchor")
BASES = ("topk_sae", "jumprelu_sae", "crosscoder")
INFOS = [info for info in method_catalogue() if info.twin not in LONG or info.name.partition("+")[0] in BASES]


@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
def test_conforms(info: MethodInfo) -> None:
    broken = [f"{v.check}: {v.status} {v.reason}" for v in check_method(info) if v.status != "ok"]
    assert not broken, "\n".join(broken)
