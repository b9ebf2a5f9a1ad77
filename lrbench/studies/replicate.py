"""The paper's tables, run again: reported values beside ours on both sides, and what explains the difference.

Every row of tables 1, 4, 5, 6 and 7, plain and anchored, and a search over what the paper leaves open. The parts are in
`lrbench.replication`.
"""

from lrbench.replication.measure import measure
from lrbench.replication.report import write
from lrbench.replication.schedule import plan
from lrbench.study import Study

STUDY = Study(plan=plan, write=write, measure=measure)
