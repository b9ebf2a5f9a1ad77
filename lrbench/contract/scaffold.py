"""`lrbench new`: a method's first file, which keeps the contract as it stands."""

from __future__ import annotations

import re
from keyword import iskeyword
from pathlib import Path

from lrbench.catalogue.methods import method_catalogue
from lrbench.errors import LrbenchError

PROJECT = re.compile(r'^name\s*=\s*"linear-representation-bench"', re.MULTILINE)
TEMPLATE = '''\
"""NAME: say in one line what is new, `lrbench list methods` shows it.

σ: TopK of ReLU. Loss: squared error. Source: the paper or the idea. Differs: what you changed, and why.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.functional import normalize

from lrbench import Dictionary, Method, NotApplicable, TrainView
from lrbench.activation import TopK
from lrbench.seeds import generator


@dataclass(frozen=True)
class CLASS(Method):
    """A sparse autoencoder whose encoder is its decoder, trained by Adam."""

    # Trained by gradient descent: "sdl". A closed form or another algorithm is a "baseline". The catalogue reads this line.
    kind: ClassVar[str] = "sdl"

    # Fields are hyper-parameters: numbers or strings, held by every record, changed by load_method(..., lr=1e-2).
    lr: float = 1e-2

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Return the dictionary. The view is all that there is to see: data, known features (view.anchors), budget."""
        if view.start is not None:
            raise NotApplicable("it cannot start at a given point, as a trap asks")
        # Whatever is random follows from the seed: through a generator of its own as here, or through the global ones that an
        # nn.Linear draws from, which lrbench seeds for every fit and puts back. Nothing is kept between two fits.
        rows = torch.randn(view.budget.n_latents, view.d_in, generator=generator(seed, "init"))
        rows = normalize(rows, dim=1).to(view.device).requires_grad_()  # rows are features
        bias = torch.zeros(view.d_out, device=view.device, requires_grad=True)
        sigma = TopK(view.budget.k())  # a sample has about this many active features
        optimiser = torch.optim.Adam([rows, bias], lr=self.lr)
        for x, target in view.batches():  # one pass spends the budget; an autoencoder's target is x
            latents = sigma((x - bias) @ rows.T)
            loss = (target - latents @ rows - bias).pow(2).sum(1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rows.data = normalize(rows.data, dim=1)
        # W_enc, b_enc, W_dec, b_dec: at most view.budget.n_latents rows, on the view's device, as float32. There is no bias
        # before the encoder, so the one subtracted above moves behind it.
        return Dictionary(rows, -(rows @ bias), rows, bias, sigma, self.pair)


# The pair says what is asked: "autoencoder", "transcoder" (two sites: needs an encoder of its own) or "crosscoder".
# `lrbench tune` chooses among the values of the grid, on seeds and tasks of no leaderboard, and writes them into the fields.
GRID = {"lr": (3e-3, 1e-2, 3e-2)}
METHOD = CLASS(pair="autoencoder")

# A variant of the one SDL objective needs no loop and has an anchored twin: from lrbench.rules import TopK,
# from lrbench.terms import AuxK, and METHOD = SDL(rule=TopK(), terms=(AuxK(),), pair="autoencoder").
'''


def new_method(name: str, here: Path) -> Path:
    """Write the first file of a method and return its path.

    Parameters
    ----------
    name
        The method's name: a Python identifier that no method of the catalogue has.
    here
        Inside a clone of the project the file goes to its ``methods/``, otherwise into this folder.

    Raises
    ------
    LrbenchError
        For a name that will not do, a file that is there already, or a folder that cannot be written.
    """
    if not name.isidentifier() or iskeyword(name) or name.startswith("_"):
        raise LrbenchError(f"{name!r} cannot be a method's name: expected letters, digits and _, such as my_sae")
    if name in {info.name for info in method_catalogue()}:
        raise LrbenchError(f"a method {name!r} exists already (`lrbench list methods` shows all): choose another name")
    clone = next((folder for folder in (here, *here.parents) if _is_clone(folder)), None)
    path = (clone / "methods" if clone else here) / f"{name}.py"
    title = "".join(part[:1].upper() + part[1:] for part in name.split("_")) + "Method"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE.replace("NAME", name, 1).replace("CLASS", title))
    except FileExistsError as error:
        raise LrbenchError(f"{path} exists already: choose another name, or move the file") from error
    except OSError as error:
        raise LrbenchError(f"cannot write {path}: {error.strerror}") from error
    return path


def _is_clone(folder: Path) -> bool:
    project = folder / "pyproject.toml"
    return project.is_file() and PROJECT.search(project.read_text(encoding="utf-8")) is not None
