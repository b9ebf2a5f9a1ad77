"""What the paper reports: the rows of its tables 1, 4, 5, 6 and 7, each with the task and the method that it is run as."""

from __future__ import annotations

import math
from dataclasses import dataclass

DEFAULT = (1000, 0.1, 0.01)  # n, M, 1-S of the paper's default setting
TABLES = {
    1: "Every method in the default setting",
    4: "ReLU SAE, number of features n",
    5: "Interference M",
    6: "Activation probability 1−S",
    7: "TopK SAE, k",
}
NAMES = {
    "relu_sae": "ReLU SAE", "jumprelu_sae": "JumpReLU SAE", "topk_sae": "TopK SAE", "batchtopk_sae": "BatchTopK SAE",
    "matryoshka_sae": "Matryoshka SAE", "transcoder": "Transcoder", "crosscoder": "Crosscoder",
}  # fmt: skip
TOPK_FAMILY = ("topk_sae", "batchtopk_sae", "matryoshka_sae")
ANCHORED = "+anchored"
Setting = tuple[float, ...]  # n, M, 1-S, and distinct samples per feature where they are not the scale's


@dataclass(frozen=True)
class Scores:
    """M_GT, a share of the features, and M_IP, of one side; NaN where there is none."""

    recovery: float = math.nan
    mip: float = math.nan


@dataclass(frozen=True)
class Row:
    """One number of a table, or the pair that stands in one place of it.

    Parameters
    ----------
    table
        The paper's number of the table.
    label
        What the row varies, in the words of the table.
    setting
        n, M and 1-S.
    method
        The method that it is run as, an address, anchored or not.
    reported
        What the paper says.
    """

    table: int
    label: str
    setting: Setting
    method: str
    reported: Scores

    @property
    def task(self) -> str:
        """The task at the suite's scale."""
        return address("reported", self.setting)

    @property
    def small(self) -> str:
        """The task at the scale of `quick`."""
        return address("reported_small", self.setting)


def address(family: str, setting: Setting) -> str:
    """Return the one spelling of a world of the tables.

    Examples
    --------
    >>> address("reported", (800, 0.1, 0.01)), address("reported", DEFAULT)
    ('reported[800,0.1,0.01]', 'reported/default')
    """
    if setting == DEFAULT:
        return f"{family}/default"
    return f"{family}[{','.join(f'{value:g}' for value in setting)}]"


def _pair(table: int, label: str, setting: Setting, method: str, plain: Scores, anchored: Scores) -> list[Row]:
    return [
        Row(table, label, setting, method, plain),
        Row(table, f"{label}, anchored", setting, f"{method}{ANCHORED}", anchored),
    ]


def _both(recovery: float, mip: float) -> Scores:
    return Scores(_share(recovery), mip)


def _share(percent: float) -> float:
    return round(percent / 100, 4)


_TABLE_1 = {  # M_GT in per cent and M_IP, plain and anchored
    "relu_sae": (0.0, 0.205, 0.0, 0.246),
    "jumprelu_sae": (0.0, 0.237, 0.0, 0.333),
    "topk_sae": (84.90, 0.983, 87.63, 0.986),
    "batchtopk_sae": (84.80, 0.981, 89.38, 0.988),
    "matryoshka_sae": (83.70, 0.982, 87.32, 0.985),
    "transcoder": (23.60, 0.838, 25.05, 0.838),
    "crosscoder": (56.42, 0.940, 57.71, 0.941),
}
_TABLE_4 = {
    800: (0.0, 0.361, 100.0, 0.436),
    900: (0.0, 0.298, 98.89, 0.345),
    1000: (0.0, 0.254, 85.50, 0.292),
    1100: (0.0, 0.223, 58.09, 0.258),
    1200: (0.0, 0.203, 30.58, 0.233),
    1300: (0.0, 0.192, 15.23, 0.216),
    1400: (0.0, 0.181, 8.57, 0.207),
}
_TABLE_5 = {  # M_GT of the TopK family, M_IP of ReLU and JumpReLU; plain and anchored
    0.05: ((84.3, 87.3), (86.1, 87.5), (83.8, 85.8), (0.205, 0.246), (0.239, 0.326)),
    0.1: ((84.90, 87.63), (84.80, 89.38), (83.70, 87.32), (0.205, 0.246), (0.237, 0.333)),
    0.2: ((85.2, 86.8), (84.7, 90.7), (84.7, 87.6), (0.204, 0.245), (0.237, 0.333)),
    0.5: ((84.2, 88.2), (83.7, 89.6), (83.9, 86.4), (0.203, 0.243), (0.237, 0.325)),
}
_TABLE_6 = {
    0.005: ((82.2, 84.3), (80.5, 83.2), (79.3, 86.1), (0.231, 0.326), (11.8, 0.890, 74.8, 0.970)),
    0.01: ((84.90, 87.63), (84.80, 89.38), (83.70, 87.32), (0.205, 0.246), (0.0, 0.237, 0.0, 0.333)),
    0.1: ((98.8, 98.4), (95.6, 96.2), (99.7, 99.7), (0.186, 0.191), (0.0, 0.191, 0.0, 0.193)),
}
_TABLE_7 = {32: (100.0, 0.999, 100.0, 0.999), 64: (93.9, 0.992, 93.4, 0.991), 128: (86.7, 0.986, 88.0, 0.987)}
MEAN_L0 = 10  # of the default setting: k = 32 is told as 3.2 times the mean L0, which holds at any scale


def _rows() -> list[Row]:
    found = []
    for method, (recovery, mip, anchored_recovery, anchored_mip) in _TABLE_1.items():
        found += _pair(1, NAMES[method], DEFAULT, method, _both(recovery, mip), _both(anchored_recovery, anchored_mip))
    for n, (recovery, mip, anchored_recovery, anchored_mip) in _TABLE_4.items():
        scores = _both(recovery, mip), _both(anchored_recovery, anchored_mip)
        found += _pair(4, f"n = {n}", (n, *DEFAULT[1:]), "relu_sae", *scores)
    for largest, columns in _TABLE_5.items():
        setting = (DEFAULT[0], largest, DEFAULT[2])
        for method, pair in zip((*TOPK_FAMILY, "relu_sae", "jumprelu_sae"), columns, strict=True):
            in_family = method in TOPK_FAMILY
            plain, anchored = (Scores(recovery=_share(v)) if in_family else Scores(mip=v) for v in pair)
            found += _pair(5, f"M = {largest:g}, {NAMES[method]}", setting, method, plain, anchored)
    for rate, (*family, relu, jumprelu) in _TABLE_6.items():
        setting, label = (*DEFAULT[:2], rate), f"1−S = {rate:g}"
        for method, pair in zip(TOPK_FAMILY, family, strict=True):
            found += _pair(6, f"{label}, {NAMES[method]}", setting, method, *(Scores(recovery=_share(v)) for v in pair))
        found += _pair(6, f"{label}, {NAMES['relu_sae']}", setting, "relu_sae", *(Scores(mip=v) for v in relu))
        scores = _both(*jumprelu[:2]), _both(*jumprelu[2:])
        found += _pair(6, f"{label}, {NAMES['jumprelu_sae']}", setting, "jumprelu_sae", *scores)
    for k, (recovery, mip, anchored_recovery, anchored_mip) in _TABLE_7.items():
        scores = _both(recovery, mip), _both(anchored_recovery, anchored_mip)
        found += _pair(7, f"k = {k}", DEFAULT, f"topk_sae[l0={k / MEAN_L0:g}]", *scores)
    return found


ROWS = _rows()
