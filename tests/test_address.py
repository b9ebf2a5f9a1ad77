"""Addresses: what stands in brackets behind a name is read safely, has one spelling, and leads to one cell."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lrbench
from lrbench import LrbenchError
from lrbench.catalogue.address import brackets, levels, like, settings, settings_text, text_of, value_of
from lrbench.catalogue.methods import select_methods
from lrbench.catalogue.tasks import load_task, select_tasks
from lrbench.cli import main
from lrbench.running.runner import plan
from lrbench.store import Store

PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=12),
)


@given(st.one_of(PLAIN, st.lists(PLAIN, max_size=3).map(tuple)))
def test_a_value_is_read_back_from_its_spelling(value: object) -> None:
    text = text_of(value)
    assert value_of(text, "x") == value
    assert settings(f"a={text}", "x") == [{"a": value}]
    assert text_of(value_of(text, "x")) == text


def methods(*patterns: str) -> list[str]:
    return [info.name for info in select_methods(patterns)]


def tasks(*patterns: str) -> list[str]:
    return [info.name for info in select_tasks("smoke", patterns)]


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("topk_sae[l0=2]", "topk_sae[l0=2]"),
        ("topk_sae[ l0 = 2.0 ]", "topk_sae[l0=2]"),
        ("topk_sae[lr=3e-3,k=32]", "topk_sae[k=32,lr=0.003]"),
        ("topk_sae[k=32,lr=0.003]", "topk_sae[k=32,lr=0.003]"),
        ("topk_sae[l0=1.0]", "topk_sae"),  # what is the default anyway
        ("topk_sae[k=None]", "topk_sae"),
        ("topk_sae[k=32]+anchored", "topk_sae[k=32]+anchored"),
        ("topk_sae+anchored[k=32]", "topk_sae[k=32]+anchored"),
        ("topk_sae+anchored[anchor_weight=1]", "topk_sae[anchor_weight=1]+anchored"),
        ("matryoshka_sae[prefix_shares=(0.5,)]", "matryoshka_sae[prefix_shares=(0.5,)]"),
    ],
)
def test_a_method_has_one_name_however_it_is_spelled(spelling: str, name: str) -> None:
    assert methods(spelling) == [name]
    assert methods(name) == [name]
    assert lrbench.load_method(spelling) == lrbench.load_method(name)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("superposition[1.45]", "superposition[1.45]"),
        ("superposition[1.450]", "superposition[1.45]"),
        ("superposition[1.3]", "superposition/1.30x"),
        ("superposition[3]", "superposition[3]"),
        ("hierarchy[(3,2),true]", "hierarchy/depth3-exclusive"),
        ("hierarchy[(4,2),False]", "hierarchy[(4,2),False]"),
        ("settling[own,0.05,0]", "settling[own,0.05,0]"),
        ("settling[own,0,0]", "settling/own"),
    ],
)
def test_a_task_has_one_name_however_it_is_spelled(spelling: str, name: str) -> None:
    assert tasks(spelling) == [name]
    assert load_task(spelling, "smoke").name == name
    assert load_task(spelling, "smoke").hash == load_task(name, "smoke").hash


def test_a_list_stands_for_several() -> None:
    assert methods("topk_sae[l0=0.5|1.5|2]") == ["topk_sae[l0=0.5]", "topk_sae[l0=1.5]", "topk_sae[l0=2]"]
    assert len(methods("topk_sae[l0=1|2,lr=0.1|0.2]")) == 4
    assert methods("topk_sae[l0=2]", "topk_sae[l0=2.0]") == ["topk_sae[l0=2]"]
    assert methods("*topk_sae[lr=0.5]") == ["batchtopk_sae[lr=0.5]", "topk_sae[lr=0.5]"]
    assert tasks("superposition[1.45|1.3]", "noise/0.3") == ["noise/0.3", "superposition/1.30x", "superposition[1.45]"]


def test_brackets_without_a_sign_are_a_glob_as_before() -> None:
    assert methods("topk_sa[de]") == ["topk_sae"]
    assert tasks("noise/0.[3]") == ["noise/0.3"]
    assert brackets("a[b") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("topk_sae[resampel=2]", "unknown hyper-parameter 'resampel': did you mean resample"),
        ("topk_sae[zzz=2]", "expected lr, batch_size, l0, resample, k, auxk_weight"),
        ("pca[zzz=2]", "unknown hyper-parameter .zzz.: expected l0, kept, whiten"),
        ("topk_sae[l0]", "expected key=value"),
        ("topk_sae[l0=]", "a value is missing"),
        ("topk_sae[]", "a value is missing"),
        ("topk_sae[l0=1,l0=2]", "l0 stands twice"),
        ("topk_sae[l0=two]", "l0='two', expected a number, such as 1"),
        ("topk_sae[resample=1.5]", "resample=1.5, expected a whole number"),
        ("topk_sae[l0=-1]", "l0=-1.0: expected a multiple of the world's mean L0 > 0"),
        ("topk_sae[l0=1e999]", "is no value"),
        ("topk_sae[l0=__import__('os').system('x')]", "is no value"),
        ("topk_sae[l0=[1]*10**9]", "is no value"),
        ("topk_sea[l0=2]", "unknown method 'topk_sea\\[l0=2\\]': did you mean topk_sae"),
        ("topk_sae[l0=2]+anchord", "unknown method"),
    ],
)
def test_a_wrong_method_is_one_line(name: str, message: str) -> None:
    with pytest.raises(LrbenchError, match=message) as caught:
        select_methods([name])
    assert "\n" not in str(caught.value)
    if "|" not in name:
        with pytest.raises(LrbenchError):
            lrbench.load_method(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("superposition[abc]", "superposition takes a number, such as 0.8, not abc"),
        ("superposition[-1]", r"superposition\[-1\]: "),
        ("superposition[]", "a value is missing"),
        ("superpositon[1.45]", "unknown task 'superpositon\\[1.45\\]': did you mean superposition"),
        ("settling[owl,0,0]", "'owl' is none of own"),
        ("hierarchy[3]", "hierarchy takes a list"),
    ],
)
def test_a_wrong_task_is_one_line(name: str, message: str) -> None:
    for ask in (lambda: select_tasks("smoke", [name]), lambda: load_task(name, "smoke")):
        with pytest.raises(LrbenchError, match=message) as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_one_method_or_task_is_one_only() -> None:
    with pytest.raises(LrbenchError, match="stands for 2 methods"):
        lrbench.load_method("topk_sae[l0=1|2]")
    with pytest.raises(LrbenchError, match="stands for 2 tasks"):
        load_task("superposition[1.4|1.5]")


def test_a_file_is_addressed_too(tmp_path: Path) -> None:
    method, task = tmp_path / "mine.py", tmp_path / "waves.py"
    method.write_text(
        '"""Mine."""\nfrom lrbench.rules import TopK\nfrom lrbench.sdl import SDL\nMETHOD = SDL(rule=TopK())\n'
    )
    task.write_text(
        'from lrbench.task import family\n\n\n@family(levels={"1": 1.0})\ndef waves(x, scale):\n    "Waves."\n    return scale.task(noise=x)\n'
    )
    assert methods(f"{method}[l0=2|1]+anchored") == ["mine[l0=2]+anchored", "mine+anchored"]
    cells = plan("smoke", [f"{task}::waves[0.5]"], [f"{method}[k=3]"])
    assert [cell.id for cell in cells] == ["waves[0.5][mine[k=3]-seed0]"]
    assert lrbench.load_method(cells[0].source).hyperparameters()["k"] == 3
    assert load_task(cells[0].task_source, "smoke").spec.world.noise == 0.5


def test_values_take_the_declared_type() -> None:
    assert like(2, 1.25) == 2.0
    assert type(like(2, 1.25)) is float
    assert like(32.0, None) == 32
    assert settings_text({"k": 32, "a": "x y"}) == "[a='x y',k=32]"
    assert levels("own,1|2", "x") == [("own", 1), 2]
    for value, example in ((True, 1), (True, 1.0), (1, True), ("a", 1.0), (1.5, 1), (1, (1,))):
        with pytest.raises(TypeError):
            like(value, example)


def test_records_files_and_frames_know_the_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["run", "--suite", "smoke", "--task", "superposition[1.45]", "--device", "cpu", "--workers", "2", "--out"]
    assert main([*command, "r", "--method", "topk_sae[l0=0.5|2]"]) == 0
    folder = Path("r/smoke/superposition[1.45]")
    assert sorted(path.name for path in folder.iterdir()) == [
        "topk_sae[l0=0.5].seed0.json",
        "topk_sae[l0=2].seed0.json",
    ]
    frame = lrbench.load_records("r")
    assert [*frame["method"]] == ["topk_sae[l0=0.5]", "topk_sae[l0=2]"]
    assert {hyper["l0"] for hyper in frame["hyperparameters"]} == {0.5, 2.0}
    assert isinstance(frame, pd.DataFrame)
    capsys.readouterr()
    assert main([*command, "r", "--method", "topk_sae[l0=2.0]", "--method", "topk_sae[l0=0.5]"]) == 0
    assert "2 were stored already" in capsys.readouterr().out
    assert main(["leaderboard", "r"]) == 0
    assert "topk_sae[l0=2]" in Path("r/LEADERBOARD.md").read_text(encoding="utf-8")
    assert main(["compare", "r", "r"]) == 0
    assert "2 cells compared" in capsys.readouterr().out
    assert len(Store("r").read()[0]) == 2
