"""Where each method breaks: the level of ten axes at which it finds less than half, and a phase diagram.

A coarse scan of every axis, then halvings of the bracket of every method and seed. The parts are in `lrbench.ladder`.
"""

from lrbench.ladder.report import write
from lrbench.ladder.schedule import next_round, plan
from lrbench.study import Study

STUDY = Study(plan=plan, write=write, next_round=next_round)
