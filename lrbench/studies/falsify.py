"""The settling test: the theory's predictions, held against what training ends in.

Worlds where the theory predicts an outcome, from extreme to moderate sparsity and bent away from linearity; every SDL method and its
twins are trained in each. The parts are in `lrbench.falsify`.
"""

from lrbench.falsify.measure import measure
from lrbench.falsify.report import write
from lrbench.falsify.worlds import blocks
from lrbench.study import Study

STUDY = Study(plan=blocks, write=write, measure=measure)
