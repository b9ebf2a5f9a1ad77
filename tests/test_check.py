"""Methods broken on purpose, each caught by exactly its check; and `lrbench check` at the command line."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import lrbench
from lrbench.catalogue.methods import select_methods
from lrbench.cli import main
from lrbench.contract.check import CHECKS, Verdict, check_method
from lrbench.contract.subject import Subject
from lrbench.errors import LrbenchError
from lrbench.running.cell import run_cell
from lrbench.running.runner import plan

BROKEN = sorted((Path(__file__).parent / "broken").glob("*.py"))  # <check>__<what is broken>.py

pytestmark = pytest.mark.usefixtures("as_users_run_it")


def slug(check: str) -> str:
    return check.replace(" ", "_").replace("-", "_")


def verdicts(path: Path) -> list[Verdict]:
    return list(check_method(select_methods([str(path)])[0]))


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_a_broken_method_is_caught_by_exactly_its_check(path: Path) -> None:
    found = verdicts(path)
    assert [verdict.check for verdict in found] == [check.name for check in CHECKS]
    assert [slug(verdict.check) for verdict in found if verdict.status == "FAIL"] == [path.stem.split("__")[0]]
    assert all(verdict.reason and "\n" not in verdict.reason for verdict in found)


def test_every_check_catches_something() -> None:
    assert {path.stem.split("__")[0] for path in BROKEN} == {slug(check.name) for check in CHECKS}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("source__computed_pair", "reads as pair='autoencoder' but METHOD has 'crosscoder'"),
        ("hyper_parameters__no_dataclass", "'lr' is not a dataclass field"),
        ("fit__raises", "AttributeError: 'TrainView' object has no attribute 'weights'"),
        ("fit__exits", "SystemExit: 3"),
        ("shapes__too_wide", "65 latents, the budget allows 1 to 64"),
        ("dtype_and_device__double", "W_enc is torch.float64, the data torch.float32"),
        ("budget__two_passes", "spent 19200 samples, the budget allows 9600"),
        ("view__centred_in_place", "fit wrote into its view"),
        ("save_and_load__own_activation", "of the latents change when the file is loaded again"),
    ],
)
def test_the_reason_names_what_is_wrong(name: str, reason: str) -> None:
    assert reason in next(v.reason for v in verdicts(BROKEN[0].with_name(f"{name}.py")) if v.status == "FAIL")


LINEAR = '''
"""Two layers of torch, started as torch starts them."""

import random
import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from lrbench import Dictionary, Method
from lrbench.activation import ReLU

print("imported")


@dataclass(frozen=True)
class Linear(Method):
    kind: ClassVar[str] = "sdl"

    def fit(self, view, seed=0):
        encoder = nn.Linear(view.d_in, view.budget.n_latents)
        decoder = nn.Linear(view.budget.n_latents, view.d_out)
        scale = 1 + random.random() + np.random.rand()
        print("step 1 of 1", file=sys.stderr)
        x, target = next(view.batches())
        loss = (decoder(torch.relu(encoder(scale * x))) - target).pow(2).mean() + 1e-3 * torch.rand(())
        loss.backward()
        for parameter in (*encoder.parameters(), *decoder.parameters()):
            parameter.data -= 0.1 * parameter.grad
        return Dictionary(encoder.weight, encoder.bias, decoder.weight.T, decoder.bias, ReLU())


METHOD = Linear()
'''


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    path = tmp_path / "linear.py"
    path.write_text(LINEAR)
    return path


def test_layers_of_torch_keep_the_contract_as_they_are(linear: Path) -> None:
    assert [(v.check, v.reason) for v in verdicts(linear) if v.status != "ok"] == []


def test_a_fit_follows_from_its_seed_everywhere_and_leaves_the_global_generators(linear: Path) -> None:
    (cell,) = plan("smoke", ["noise/0.3"], [str(linear)])
    record = run_cell(replace(cell, isolation="none"))
    task, states = lrbench.load_task("noise/0.3", "smoke"), global_states()
    for _ in range(2):
        dictionary = lrbench.load_method(linear).fit(task.view(), seed=task.fit_seed)
        scores = lrbench.score(dictionary, task)
        assert record.scores == {name: None if value != value else value for name, value in scores.items()}
    other = lrbench.load_method(linear).fit(task.view(), seed=1)
    assert not torch.equal(dictionary.W_enc, other.W_enc)
    assert global_states() == states


def global_states() -> tuple[object, ...]:
    numpy = np.random.get_state()  # noqa: NPY002 (it is watched, not used)
    return random.getstate(), numpy[1].tobytes(), numpy[2:], torch.get_rng_state().tolist()  # type: ignore[index, union-attr]


def test_what_a_method_prints_is_shown_only_where_a_check_fails(
    linear: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(linear)]) == 0
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == len(CHECKS) + 1
    assert "imported" not in out
    assert err == ""
    linear.write_text(LINEAR.replace("        loss.backward()", "        raise ValueError('no')"))
    assert main(["check", str(linear)]) == 1
    out, err = capfd.readouterr()
    assert "ValueError: no" in out
    assert "step 1 of 1" not in out
    assert err == "  the method printed: step 1 of 1\n"


@pytest.mark.parametrize(
    "name",
    [
        "dtype_and_device__double",
        "finiteness__nan",
        "finiteness__overflow",
        "fit__returns_weights",
        "pair__not_said",
        "shapes__too_wide",
        "view__centred_in_place",
    ],
)
def test_a_run_and_the_check_say_the_same_of_one_fault(name: str) -> None:
    path = BROKEN[0].with_name(f"{name}.py")
    (reason,) = [verdict.reason for verdict in verdicts(path) if verdict.status == "FAIL"]
    (cell,) = plan("smoke", ["noise/0.3"], [str(path)])
    assert run_cell(replace(cell, pair=select_methods([str(path)])[0].pair)).reason == f"LrbenchError: {reason}"


def test_brackets_are_checked_with_what_they_set() -> None:
    (info,) = select_methods(["topk_sae[l0=2]"])
    assert Subject(info).method.hyperparameters()["l0"] == 2


def test_a_kind_that_no_table_knows_is_refused(linear: Path) -> None:
    linear.write_text(LINEAR.replace('= "sdl"', '= "sae"'))
    with pytest.raises(LrbenchError, match=r"kind='sae': expected one of sdl, baseline, reference"):
        select_methods([str(linear)])


def test_the_documentation_lists_every_check() -> None:
    page = (Path(__file__).parent.parent / "docs" / "submit.md").read_text()
    rows = [line.split("|")[1].strip() for line in page.split("| check |")[1].split("\n\n")[0].splitlines()[2:]]
    assert rows == [check.name for check in CHECKS]


def test_a_check_that_cannot_tell_says_what_it_needs() -> None:
    found = verdicts(BROKEN[0].with_name("fit__raises.py"))
    assert [v.check for v in found if v.status == "ok"] == ["source", "hyper-parameters"]
    assert {v.reason for v in found if v.status == "-"} >= {"not run: it needs the check 'fit' to be ok"}


def test_exit_codes_and_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check", "topk_sae+anchored"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[:-1]] == [check.name for check in CHECKS]
    assert lines[-1] == "topk_sae+anchored keeps the contract"
    assert main(["check", str(BROKEN[0].with_name("pair__not_said.py"))]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines if "FAIL" in line] == ["pair"]
    assert lines[-1] == f"pair__not_said breaks the contract: 1 of {len(CHECKS)} checks failed"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        (
            "import no_such_module\nMETHOD = 1\n",
            "does not import (ModuleNotFoundError: No module named 'no_such_module')",
        ),
        ("def (", "is not valid Python"),
        ("x = 1\n", "declares no method"),
        ("METHOD = 1\n", "expected METHOD = an lrbench.Method, found int"),
    ],
    ids=["missing", "import", "syntax", "no METHOD", "another METHOD"],
)
def test_a_file_that_is_no_method_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, message: str
) -> None:
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    assert main(["check", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


def test_an_unknown_name_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "topk_sea"]) == 2
    assert "did you mean topk_sae" in capsys.readouterr().err


def test_checking_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    import torch

    from lrbench.view import TrainView

    before: tuple[int, Callable[..., object], Callable[..., object]]
    before = (torch.get_num_threads(), TrainView.head, TrainView._batches)
    verdicts(BROKEN[0].with_name("fit__raises.py"))
    with pytest.raises(LrbenchError):
        verdicts(tmp_path / "missing.py")
    assert before == (torch.get_num_threads(), TrainView.head, TrainView._batches)
