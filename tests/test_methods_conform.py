"""Every method of the catalogue, with its anchored twin and some of the others, keeps the contract that `lrbench check` tests."""

from __future__ import annotations

import re

import pytest
import torch

from lrbench.catalogue.methods import load_method, method_catalogue
from lrbench.catalogue.source import MethodInfo
from lrbench.catalogue.tasks import load_task
from lrbench.contract.check import check_method

# These twins train two or three times each; what they add is the same code for every method.
LONG = ("resample", "autoanchor")
BASES = ("topk_sae", "jumprelu_sae", "crosscoder")
INFOS = [info for info in method_catalogue() if info.twin not in LONG or info.name.partition("+")[0] in BASES]


# Methods that may stop before the budget is spent, with the words in which their file says when.
STOPS = {
    "acs_sae": "when no step lowers the error",
    "ica": "It stops when it has converged",
    "pca": "It stops after one look at every distinct sample",
}


@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
def test_conforms(info: MethodInfo) -> None:
    verdicts = {v.check: v for v in check_method(info)}
    broken = [f"{v.check}: {v.status} {v.reason}" for v in verdicts.values() if v.status != "ok"]
    assert not broken, "\n".join(broken)
    said = re.fullmatch(r"spent (\d+) of (\d+) samples", verdicts["budget"].reason)
    assert said is not None
    if info.kind == "reference":
        assert int(said[1]) == 0
    elif info.name in STOPS:
        assert STOPS[info.name] in info.path.read_text(encoding="utf-8")
    else:
        assert 0.95 <= int(said[1]) / int(said[2]) <= 1.0


def test_ica_leaves_out_directions_in_which_nothing_varies() -> None:
    task = load_task("ladder[skew,3]", "quick", 0)
    view = task.view()
    varied = torch.linalg.matrix_rank(torch.cov(view.sites[0].double().T), rtol=1e-9, hermitian=True)
    dictionary = load_method("ica").fit(view, seed=0)
    assert dictionary.W_dec.shape[0] <= varied < view.d_in
    assert dictionary.W_dec.isfinite().all()


def test_ica_skips_what_diverges_and_not_what_is_misspelt() -> None:
    view = load_task("superposition/2.00x", "quick", 0).view()
    with pytest.raises(ValueError, match="'fun' parameter of FastICA must be"):
        load_method("ica", contrast="cubes").fit(view, seed=0)
