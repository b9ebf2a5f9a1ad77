"""The peers that ``benchmarks/speed.py`` times: each library's own training step on its own class, at its default settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

INSTALL = "not installed: pip install .[peers]"


@dataclass(frozen=True)
class Shape:
    """What a peer's dictionary has to fit.

    Parameters
    ----------
    d_in, width
        Dimension of the input and number of latents.
    batch_size, steps
        Samples per step, and how many steps the run that the timed ones belong to would have.
    k
        Active latents per sample, where the variant has a k.
    """

    d_in: int
    width: int
    batch_size: int
    steps: int
    k: int = 32


@dataclass(frozen=True)
class Peer:
    """A training of another library: ``step`` takes an input batch, ``encode`` gives its latents."""

    step: Callable[[Tensor], object]
    encode: Callable[[Tensor], Tensor]


def sae_lens(kind: str, shape: Shape, lr: float = 3e-4, **own: Any) -> Peer:
    """Return SAELens' own trainer on one of its training classes; ``own`` goes to the class's configuration."""
    import sae_lens as library
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    torch.manual_seed(0)
    config = getattr(library, f"{kind}TrainingSAEConfig")(d_in=shape.d_in, d_sae=shape.width, **own)
    sae = getattr(library, f"{kind}TrainingSAE")(config)
    nothing: Iterator[Tensor] = repeat(torch.zeros(0))  # batches are handed to step() itself
    trainer = SAETrainer(
        cfg=SAETrainerConfig(
            total_training_samples=shape.steps * shape.batch_size,
            train_batch_size_samples=shape.batch_size,
            lr=lr,
            lr_end=lr / 10,
        ),
        sae=sae,
        data_provider=nothing,
    )

    def step(batch: Tensor) -> None:  # what SAETrainer.fit does for a batch
        trainer.step(batch)
        trainer.n_training_steps += 1

    return Peer(step, sae.encode)


def dictionary_learning(kind: str, module: str, shape: Shape) -> Peer:
    """Return a trainer of the package dictionary-learning."""
    from importlib import import_module

    trainer = getattr(import_module(f"dictionary_learning.trainers.{module}"), kind)(
        steps=shape.steps,
        activation_dim=shape.d_in,
        dict_size=shape.width,
        k=shape.k,
        layer=0,
        lm_name="",
        seed=0,
        device="cpu",
    )
    taken = [0]

    def step(batch: Tensor) -> None:
        trainer.update(taken[0], batch)
        taken[0] += 1

    return Peer(step, trainer.ae.encode)


def overcomplete(kind: str, shape: Shape) -> Peer:
    """Return Overcomplete's training function, called with one batch at a time, on one of its classes."""
    import matplotlib.pyplot as plt

    # Overcomplete 0.3 asks for it on import, Matplotlib 3.11 has moved it
    vars(plt.cm).setdefault("get_cmap", plt.get_cmap)
    from overcomplete import sae as library

    torch.manual_seed(0)
    model = getattr(library, kind)(shape.d_in, nb_concepts=shape.width, top_k=shape.k)
    optimiser = torch.optim.Adam(
        model.parameters(), lr=3e-4
    )  # the library leaves the optimiser and the loss to its user

    def squared_error(x: Tensor, x_hat: Tensor, *others: Tensor) -> Tensor:
        return (x - x_hat).square().mean()

    def step(batch: Tensor) -> None:
        library.train_sae(model, [batch], squared_error, optimiser, nb_epochs=1, monitoring=0)

    return Peer(step, lambda x: model.encode(x)[1])


def synthetic(rates: list[float], dim: int) -> Callable[[int], Tensor]:
    """Return the sampling function of SAELens' synthetic model whose features are independent with these rates."""
    from sae_lens.synthetic import SyntheticModel, SyntheticModelConfig
    from sae_lens.synthetic.firing_probabilities import FiringProbabilityConfig

    class Given(FiringProbabilityConfig):  # type: ignore[misc]  # mypy does not read SAELens
        @classmethod
        def generator_name(cls) -> str:
            return "given"

        def generate(self, num_features: int, seed: int | None = None) -> Tensor:
            return torch.tensor(rates)

    law = SyntheticModelConfig(
        num_features=len(rates),
        hidden_dim=dim,
        firing_probability=Given(),
        std_firing_magnitudes=0.5,
        bias=False,
        seed=0,
    )
    sample: Callable[[int], Tensor] = SyntheticModel(law).sample
    return sample
