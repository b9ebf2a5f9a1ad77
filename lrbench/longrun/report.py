"""How far a training is: a few numbers that cross processes, checked on the side that reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0, lt=2**63)]
FIGURES = ("loss", "l0", "fvu", "dead")


class Report(BaseModel):
    """What a training says of one step; a figure is None where it is not finite, or not told.

    Parameters
    ----------
    training
        Which training of the fit: 0 for the first.
    step
        Steps of this training that are taken.
    samples
        Samples of the budget that the whole fit has spent.
    loss, l0, fvu
        Of the step's batch: the objective, active latents per sample, and the share of the target's variance left unexplained.
    dead
        Number of dead latents.
    row
        Whether it is a row of the log.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    training: Count
    step: Count
    samples: Count
    loss: float | None = None
    l0: float | None = None
    fvu: float | None = None
    dead: Count | None = None
    row: bool = False


@dataclass(frozen=True)
class Progress:
    """A report as the run shows it, with the samples of the whole budget."""

    samples: int
    total: int
    loss: float | None
    l0: float | None
