"""What may explain the encoder's numbers: settings that the paper leaves open, each varied alone and in the combinations that promise most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrbench.catalogue.address import settings_text
from lrbench.replication.reported import DEFAULT, MEAN_L0, TOPK_FAMILY, Setting, address

FILE = Path(__file__).with_name("reported_sae.py")
OF_THE_CATALOGUE = {"l0", "lr", "batch_size"}  # settings for which no loop of its own is needed
WORDS = {
    "tied": "tied weights", "lr": "learning rate {:g}", "encoder_norm": "encoder rows start at length {:g}", "weight_decay": "weight decay {:g}",
    "unit": "decoder rows not normalised", "schedule": "constant learning rate", "revive": "no AuxK", "share": "{:.0%} of the steps",
    "batch_size": "batches of {:g}",
}  # fmt: skip
SMALL_START = {"lr": 0.001, "encoder_norm": 0.1}
ALONE: tuple[dict[str, Any], ...] = (
    {}, {"tied": True},
    {"l0": 3.2}, {"l0": 6.4}, {"l0": 12.8},
    {"lr": 0.003}, {"lr": 0.001}, {"lr": 0.0003},
    {"encoder_norm": 0.1}, {"encoder_norm": 0.01},
    {"weight_decay": 0.1}, {"weight_decay": 1.0}, {"weight_decay": 3.0}, {"weight_decay": 10.0},
    {"unit": False}, {"schedule": False}, {"revive": False}, {"share": 0.2}, {"batch_size": 64},
)  # fmt: skip
TOGETHER: tuple[dict[str, Any], ...] = (
    SMALL_START, {"lr": 0.001, "encoder_norm": 0.01}, {"lr": 0.0003, "encoder_norm": 0.1},
    SMALL_START | {"weight_decay": 1.0}, SMALL_START | {"weight_decay": 3.0},
    {"lr": 0.003, "encoder_norm": 0.1, "weight_decay": 3.0}, {"lr": 0.0003, "encoder_norm": 0.1, "batch_size": 64},
    SMALL_START | {"l0": 3.2}, SMALL_START | {"l0": 12.8}, SMALL_START | {"unit": False}, SMALL_START | {"schedule": False},
    {"tied": True, "l0": 3.2}, {"tied": True, "l0": 6.4}, {"tied": True, "l0": 12.8}, {"tied": True, "lr": 0.001},
    {"tied": True, "lr": 0.001, "l0": 12.8}, {"tied": True, "unit": False}, {"tied": True, "batch_size": 64, "l0": 3.2},
)  # fmt: skip
OTHERS: tuple[dict[str, Any], ...] = (  # of BatchTopK and Matryoshka
    {}, {"tied": True}, {"lr": 0.003}, {"lr": 0.001}, {"tied": True, "l0": 12.8}, {"l0": 12.8}, {"weight_decay": 3.0}, SMALL_START,
    SMALL_START | {"weight_decay": 3.0},
)  # fmt: skip
CONFIRMED: tuple[dict[str, Any], ...] = (  # at the paper's scale too, in all three
    {"tied": True}, {"weight_decay": 3.0}, {"tied": True, "l0": 12.8},
)  # fmt: skip
CONFIRMED_ONCE: tuple[dict[str, Any], ...] = (  # of TopK
    {"lr": 0.001}, SMALL_START, {"tied": True, "lr": 0.001, "l0": 12.8},
)  # fmt: skip
SAMPLES = (20, 100)  # distinct ones per feature; the paper has 100
PENALTIES = ("l0=0.5", "l0=4", "l0=16", "l0=64")
NO_PENALTY = {"relu_sae": "l1_weight=0", "jumprelu_sae": "l0_weight=0"}


@dataclass(frozen=True)
class Cause:
    """A method of the TopK family with what it is trained with in place of the bench's own settings.

    Parameters
    ----------
    method
        ``"topk_sae"``, ``"batchtopk_sae"`` or ``"matryoshka_sae"``.
    changes
        Fields of `lrbench.replication.reported_sae.ReportedSAE`.
    setting
        The world.
    """

    method: str
    changes: tuple[tuple[str, Any], ...]
    setting: Setting = DEFAULT

    @property
    def name(self) -> str:
        """The method as its record bears it."""
        changes = dict(self.changes)
        if changes.keys() <= OF_THE_CATALOGUE:
            return self.method + settings_text(changes)
        sigma = self.method.removesuffix("_sae")
        return FILE.stem + settings_text(changes | ({"sigma": sigma} if sigma != "topk" else {}))

    @property
    def address(self) -> str:
        """The method as a block asks for it."""
        return (
            str(FILE.parent / self.name.replace(FILE.stem, FILE.name, 1))
            if self.name.startswith(FILE.stem)
            else self.name
        )

    def task(self, family: str) -> str:
        """The task, in one of the two families."""
        return address(family, self.setting)

    @property
    def words(self) -> str:
        """What differs from the bench's own settings, in words."""
        said = [f"{self.setting[3]:g} distinct samples per feature"] if len(self.setting) > 3 else []
        said += [words_of(name, value) for name, value in self.changes]
        return ", ".join(said) or "the bench's own settings"


def words_of(name: str, value: Any) -> str:
    """Return a setting in words.

    Examples
    --------
    >>> words_of("l0", 3.2), words_of("lr", 0.001)
    ('k = 3.2 × mean L0 (32)', 'learning rate 0.001')
    """
    if name == "l0":
        return f"k = {value:g} × mean L0 ({value * MEAN_L0:g})"
    return WORDS[name].format(value)


def search() -> list[Cause]:
    """Return the cells of the search, at the scale of `quick`."""
    found = [_cause("topk_sae", changes) for changes in (*ALONE, *TOGETHER)]
    found += [Cause("topk_sae", (), (*DEFAULT, samples)) for samples in SAMPLES]
    return found + [_cause(method, changes) for method in TOPK_FAMILY[1:] for changes in OTHERS]


def confirmed() -> list[Cause]:
    """Return the cells of the search that are trained at the paper's scale too, those of tables 1 and 7 left out."""
    return [_cause(method, changes) for changes in CONFIRMED for method in TOPK_FAMILY] + [
        _cause("topk_sae", changes) for changes in CONFIRMED_ONCE
    ]


def penalties() -> list[str]:
    """Return ReLU and JumpReLU SAEs with other penalties than the default, each named by the L0 that it is steered to."""
    return [f"{method}[{each}]" for method, none in NO_PENALTY.items() for each in (*PENALTIES, none)]


def _cause(method: str, changes: Mapping[str, Any]) -> Cause:
    return Cause(method, tuple(changes.items()))
