"""Every method of the catalogue, twins included, keeps the contract that `lrbench check` tests."""

from __future__ import annotations

import pytest

from lrbench.catalogue.methods import method_catalogue
from lrbench.catalogue.source import MethodInfo
from lrbench.contract.check import check_method


@pytest.mark.parametrize("info", method_catalogue(), ids=lambda info: info.name)
def test_conforms(info: MethodInfo) -> None:
    broken = [f"{v.check}: {v.status} {v.reason}" for v in check_method(info) if v.status != "ok"]
    assert not broken, "\n".join(broken)
