"""Changes every setting of its process that it knows."""

import locale
import os
import random
import sys
import warnings

import numpy as np
import torch

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        dictionary = lrbench.load_method("random").fit(view, seed)
        os.chdir("/")
        os.environ.clear()
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_num_threads(7)
        torch.set_grad_enabled(False)
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        np.seterr(all="raise")
        warnings.simplefilter("error")
        locale.setlocale(locale.LC_ALL, "C")
        sys.stdout = sys.stderr = None
        sys.path.clear()
        return dictionary


METHOD = Hostile()
