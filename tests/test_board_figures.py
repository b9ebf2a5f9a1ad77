"""The figures of the leaderboard: a colour for each method, curves that show what was measured, and the same bytes each time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from lrbench.catalogue.methods import method_catalogue, methods_for
from lrbench.falsify.figure import label
from lrbench.falsify.predictions import PREDICTIONS
from lrbench.leaderboard.compile import Board, compile_boards
from lrbench.leaderboard.figures import recovery_figure, where_figure
from lrbench.leaderboard.styles import styles
from lrbench.pages.palette import _oklab, palette
from lrbench.record import Provenance, Record, Timing

APART = 0.06  # in OKLab: a step that is seen beside each other


def records(methods: dict[str, tuple[str, str]], tasks: tuple[str, ...] = ("a/x", "a/y", "b/z")) -> Iterator[Record]:
    curve = {
        "threshold": [0.0, 0.5, 0.95, 1.0],
        "recovery_dec": [1.0, 1.0, 1.0, 0.0],
        "recovery_enc": [1.0, 0.5, 0.0, 0.0],
    }
    for place, (method, (kind, pair)) in enumerate(methods.items()):
        for task, seed in itertools.product(tasks, (0, 1)):
            yield Record(
                task=task, family=task[0], suite="quick", seed=seed, task_hash=task, world_hash=f"{task} {seed}", method=method,
                pair=pair, kind=kind, source_hash="one", status="ok", scores={"headline": 1.0 - 0.1 * place - (task == "b/z")},
                curves=curve, timing=Timing(seconds=1.0, finished="2025-01-01T00:00:00+00:00"),
                provenance=Provenance(lrbench="0", python="3", platform="x", packages={}, commit=None, dirty=None, device="cpu"),
            )  # fmt: skip


def board() -> Board:
    (found,) = compile_boards(
        [*records({"truth": ("reference", "autoencoder"), "m": ("sdl", "crosscoder"), "n": ("sdl", "autoencoder")})]
    )
    return found


def test_no_method_shares_a_colour_with_another() -> None:
    kinds = {info.name: info.kind for info in method_catalogue()}
    assert {info.name for info in methods_for()} <= kinds.keys()
    kinds |= {"oracle": "reference", "mine": "sdl", "mine[k=3]": "sdl", "mine[k=3]+anchored": "sdl"}
    found = styles(kinds)
    looks = [(own["color"], str(own["linestyle"])) for own in found.values()]
    assert len(set(looks)) == len(looks) == len(kinds)
    owners: dict[str, set[str]] = {}
    for name, own in found.items():
        owners.setdefault(own["color"], set()).add(name.partition("+")[0])
    assert all(len(names) == 1 for names in owners.values())  # only twins share their method's
    colours = _oklab(np.array([to_rgb(colour) for colour in owners]))
    least = min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(colours, 2))
    assert least > APART


def test_colours_are_as_many_as_are_asked_for() -> None:
    assert len(set(palette(40))) == 40
    assert palette(0) == palette(5)[:0]
    assert palette(12) == palette(40)[:12]


def test_the_true_dictionary_does_not_fall_where_nothing_was_measured() -> None:
    figure = recovery_figure(board())
    (truth,) = (line for line in figure.axes[0].lines if line.get_label() == "truth")
    assert list(np.asarray(truth.get_xdata())) == [0.0, 0.5, 0.95]
    assert list(np.asarray(truth.get_ydata())) == [1.0, 1.0, 1.0]
    assert figure.axes[0].get_xlim() == (0.0, 0.95)


def test_the_map_of_scores_has_the_families_and_pairings_apart() -> None:
    figure: Figure = where_figure(board())
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a/x", "a/y", "b/z"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["truth", "n", "m"]  # autoencoders, then crosscoders
    shown = np.asarray(axes.images[0].get_array())
    assert shown[0] == pytest.approx([1.0, 1.0, 0.0])
    assert shown[2] == pytest.approx([0.9, 0.9, -0.1])
    lines = [tuple(np.ravel(line.get_xydata())) for line in axes.lines]
    assert sorted(lines) == [(0.0, 1.5, 1.0, 1.5), (1.5, 0.0, 1.5, 1.0)]


@pytest.mark.parametrize("prediction", PREDICTIONS, ids=lambda prediction: prediction.name)
def test_every_panel_of_the_settling_test_says_what_it_shows(prediction: object) -> None:
    text = label(prediction.measure)  # type: ignore[attr-defined]
    assert text
    assert max(map(len, text.splitlines())) <= 27
    assert len(text.splitlines()) <= 4
