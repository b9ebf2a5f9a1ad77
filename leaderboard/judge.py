"""Every score of every method, over all tasks and family by family: what got worse, what got better, and what may be noise."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from lrbench.metric_table import METRICS

from .compare_cells import Pair
from .noise import assumed_difference
from .paired import Paired, equal_weights, paired

MAIN = (
    "headline",
    "f1",
)  # where no score is asked for by name: are features found, and do their latents fire with them
ALPHA = (
    0.03  # the chance of any false alarm in a whole comparison; 0.05 is promised, and noise is known from few trainings
)
DROP = 3.0  # tolerances: a true loss of this much has to be found, or the comparison says that it cannot tell
FAR = 2.0  # tolerances that one task has to lose to be pointed out
SLACK = 1e-9  # an effect of just the tolerance is none, whatever its last bit says

Outcome = Literal["worse", "better", "moved", "cannot tell", "unclear", "unchanged"]
Key = tuple[str, str, str]  # suite, method, metric
Part = tuple[bool, bool]  # of the tests: is it a main score's, is it one family's
Values = Mapping[str, Sequence[tuple[float, float]]]  # task → base and head, per seed


@dataclass(frozen=True)
class Change:
    """How one score of one method differs, over all tasks of a suite that were measured on both sides or over one family's.

    Attributes
    ----------
    family
        The family, None over all of them.
    base, head
        Mean over families of the mean over their tasks of the mean over seeds.
    effect
        head − base, in the metric's unit.
    tolerance
        The metric's: an effect up to this is none.
    limit
        An effect beyond this is one: the tolerance, or what noise alone may do where that is more.
    tasks, pairs
        Number of tasks, and of (task, seed) pairs.
    seeds_needed
        Seeds per task from which on a true loss of `DROP` tolerances is found with a chance of 95%.
    worst_task, worst_effect, worst_stands_out
        The task with the greatest loss, or the least gain; head − base there; and whether that is a loss of more than
        `FAR` tolerances, and more than noise does to any one task. It never makes a run red.
    outcome
        A loss of a main score beyond what is to be found and not the limit is ``"cannot tell"`` if the seeds are fewer than needed.
        What is to be found is the tolerance over all tasks, and `DROP` tolerances on one family of several. Any other effect between
        tolerance and limit is ``"unclear"``: no more than seeds do to one another. ``"moved"`` is a reference's change for better or worse: it
        tells of the scale, not of a method.
    """

    suite: str
    method: str
    metric: str
    family: str | None
    base: float
    head: float
    effect: float
    tolerance: float
    limit: float
    tasks: int
    pairs: int
    seeds_needed: int
    worst_task: str
    worst_effect: float
    worst_stands_out: bool
    outcome: Outcome

    @property
    def score(self) -> Key:
        """Suite, method and metric: what the changes over all tasks and on single families share."""
        return self.suite, self.method, self.metric

    @property
    def size(self) -> float:
        """The effect in units of the tolerance, without its sign."""
        return abs(self.effect) / self.tolerance


@dataclass(frozen=True)
class _Score:
    """All differences of one score of one method, and whether it is a main score and a reference's."""

    key: Key
    values: Values
    families: Mapping[str, str]
    main: bool
    reference: bool

    def parts(self) -> Iterator[tuple[str | None, list[str]]]:
        """Yield what is tested: all tasks, then each family's if there are several."""
        yield None, [*self.values]
        by_family: dict[str, list[str]] = defaultdict(list)
        for task in self.values:
            by_family[self.families[task]].append(task)
        if len(by_family) > 1:
            yield from by_family.items()

    def moved(self, tasks: Sequence[str]) -> bool:
        return any(before != after for task in tasks for before, after in self.values[task])


def judge(pairs: Sequence[Pair], metrics: Sequence[str], main: Sequence[str] = MAIN) -> tuple[Change, ...]:
    """Weigh every score of every method.

    The chance of a false alarm is shared in equal parts among four sorts of tests, as far as something moved there at all: the main
    scores over all tasks, the main scores on one family, the others over all tasks, the others on one family. Within a sort all
    tests that moved share alike.

    Parameters
    ----------
    pairs
        Records of the same cells, of base and of head.
    metrics
        Names from `METRICS` that have a better direction.
    main
        The main scores among them: they share their half of the chance with no other, and only they ask for more seeds.
    """
    scores = _scores(pairs, metrics, main)
    moved: Counter[Part] = Counter()
    moved_tasks = 0
    for score in scores:
        if not score.reference:
            moved.update((score.main, family is not None) for family, tasks in score.parts() if score.moved(tasks))
            moved_tasks += sum(score.moved([task]) for task in score.values)
    alphas = {part: ALPHA / len(moved) / count for part, count in moved.items()}
    still, of_task = ALPHA / max(1, len(moved)), ALPHA / max(1, moved_tasks)
    found: list[Change] = []
    for score in scores:
        better = _better(score.key[2])
        noise = {task: assumed_difference(score.key[1], score.families[task], score.key[2]) for task in score.values}
        differences = {task: [better * (b - a) for a, b in values] for task, values in score.values.items()}
        weighed = paired(differences, noise)
        parts = [*score.parts()]
        for family, tasks in parts:
            alpha = alphas.get((score.main, family is not None), still)
            finest = len(tasks) > 1 and (family is not None or len(parts) == 1)
            own = weighed
            if family is not None:
                own = weighed.with_noise_of(paired({task: differences[task] for task in tasks}, noise))
            found.append(_change(score, own, family, tasks, alpha, of_task if finest else None))
    return tuple(found)


def _scores(pairs: Sequence[Pair], metrics: Sequence[str], main: Sequence[str]) -> list[_Score]:
    groups: dict[Key, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    families = {(a.suite, a.task): a.family for a, _ in pairs}
    references = {a.method for a, _ in pairs if a.kind == "reference"}  # base says so, not head
    for a, b in pairs:
        for name in metrics:
            before, after = a.scores.get(name), b.scores.get(name)
            if before is not None and after is not None:
                groups[a.suite, a.method, name][a.task].append((before, after))
    return [
        _Score(
            key,
            values,
            families={task: families[key[0], task] for task in values},
            main=key[2] in main,
            reference=key[1] in references,
        )
        for key, values in groups.items()
    ]


def _better(metric: str) -> int:
    return 1 if METRICS[metric].direction == "higher" else -1


def _change(
    score: _Score, found: Paired, family: str | None, tasks: Sequence[str], alpha: float, of_task: float | None
) -> Change:
    """One test; ``of_task`` is the chance of a false alarm on one task, None where tasks are not to be pointed out."""
    tolerance, better = METRICS[score.key[2]].tolerance, _better(score.key[2])
    weights = equal_weights(tasks, score.families)
    base, head = (
        sum(weight * fmean(pair[side] for pair in score.values[task]) for task, weight in weights.items())
        for side in (0, 1)
    )
    effect, limit = found.effect(weights), max(tolerance + SLACK, found.limit(alpha, weights))
    needed = found.seeds_for(DROP * tolerance, alpha, weights)
    to_be_found = (1.0 if family is None else DROP) * tolerance
    if abs(effect) <= tolerance + SLACK:
        outcome: Outcome = "unchanged"
    elif abs(effect) > limit:
        outcome = "moved" if score.reference else "better" if effect > 0 else "worse"
    elif (
        score.main
        and not score.reference
        and -effect > to_be_found + SLACK
        and needed > min(found.seeds[task] for task in tasks)
    ):
        outcome = "cannot tell"
    else:
        outcome = "unclear"
    worst = min(tasks, key=lambda task: found.by_task[task])
    return Change(
        *score.key,
        family=family,
        base=base,
        head=head,
        effect=better * effect,
        tolerance=tolerance,
        limit=limit,
        tasks=len(tasks),
        pairs=sum(found.seeds[task] for task in tasks),
        seeds_needed=needed,
        worst_task=worst,
        worst_effect=better * found.by_task[worst],
        worst_stands_out=of_task is not None
        and found.by_task[worst] < -max(FAR * tolerance + SLACK, found.limit(of_task, {worst: 1.0})),
        outcome=outcome,
    )
