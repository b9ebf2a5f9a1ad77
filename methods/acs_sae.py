"""ACS SAE: alternating convex search, encoder and decoder in turn while the activation pattern is held.

σ: TopK of ReLU, biases stay 0. Loss: squared error. Source: the paper's theorem 3.2; Gorski et al. 2007. Differs: the encoder's
block is solved without the faces of the pattern's region; half steps lead back from its solution until the error has fallen.
"""

from dataclasses import dataclass

from lrbench import activation
from lrbench.alternate import reconstruction_error, refit_decoder, refit_encoder, topk_codes
from lrbench.dictionary import Dictionary
from lrbench.method import Method
from lrbench.rules import Rule
from lrbench.sdl import start_parameters
from lrbench.seeds import generator
from lrbench.view import TrainView

SHORTEST = 1 / 64  # a step toward the encoder's solution at which the search has ended


@dataclass(frozen=True)
class AlternatingConvexSearch(Method):
    """The search on the first samples, as many as the budget pays ``passes`` over, each of which counts; at most ``samples``."""

    l0: float = 1.0
    passes: int = 18
    samples: int = 32_768
    decoder_iterations: int = 20
    encoder_iterations: int = 2
    kind = "sdl"

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Return what is reached when no step lowers the error, or when the budget pays less than two more passes."""
        view = view.paired(self.pair)
        p = {name: t.detach() for name, t in start_parameters(view, Rule(), generator(seed, "init")).items()}
        w_enc, b_enc, w_dec, b_dec = p["W_enc"], p["b_enc"], p["W_dec"], p["b_dec"]
        k = view.budget.k(self.l0)
        x, target = view.head(min(self.samples, max(1, view.budget.n_samples // self.passes)))
        target = target - b_dec
        codes, passes, step = topk_codes(w_enc, b_enc, x, k), view.budget.n_samples // len(x) - 1, 1.0
        while passes > 1 and step > SHORTEST:
            w_dec = refit_decoder(codes, w_dec, target, self.decoder_iterations)
            best = reconstruction_error(codes, w_dec, target)
            iterations = min(self.encoder_iterations, passes - 1)
            view.look_again(iterations * len(x))
            goal = refit_encoder(codes, w_enc, w_dec, x, target, iterations)
            passes, step = passes - iterations, 1.0
            while passes > 0 and step > SHORTEST:
                tried = w_enc + step * (goal - w_enc)
                view.look_again(len(x))
                found, passes = topk_codes(tried, b_enc, x, k), passes - 1
                if reconstruction_error(found, w_dec, target) < best:
                    w_enc, codes = tried, found
                    break
                step /= 2
        w_dec = refit_decoder(codes, w_dec, target, self.decoder_iterations)
        return Dictionary(w_enc, b_enc, w_dec, b_dec, activation.TopK(k), self.pair)


GRID = {"passes": (9, 12, 18), "encoder_iterations": (2, 3)}
METHOD = AlternatingConvexSearch()
