"""Real activations: what methods find of class means, and what controls find that have learned nothing.

Plain and anchored SDL methods on the activations of small models. Beside the scores: what each parent class loses on its children and
why, an undertrained control, and for the plain methods the agreement of two starts and a frozen decoder. The parts are in
`lrbench.controls`.
"""

from lrbench.controls.measure import measure
from lrbench.controls.report import write
from lrbench.controls.schedule import plan
from lrbench.study import Study

STUDY = Study(plan=plan, write=write, measure=measure)
