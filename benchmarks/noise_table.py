"""Write what `lrbench study noise` measured into ``leaderboard/noise.py``, where `lrbench compare` looks it up.

python benchmarks/noise_table.py
"""

from __future__ import annotations

from pathlib import Path
from statistics import quantiles, stdev

from lrbench.catalogue.methods import method_catalogue
from lrbench.catalogue.studies import find_study
from lrbench.leaderboard.judge import MAIN
from lrbench.metric_table import METRICS
from lrbench.store import read_packed
from lrbench.studies.noise import noise_of

ROOT = Path(__file__).parent.parent
FILE = ROOT / "leaderboard" / "noise.py"
BEGIN, END = "# written by benchmarks/noise_table.py\n", "# end\n"


def deviations() -> dict[tuple[str, str, str], float]:
    """Return method, family, metric → standard deviation over trainings on one world, the largest of the family's tasks."""
    references = {info.name for info in method_catalogue() if info.kind == "reference"}
    found: dict[tuple[str, str, str], float] = {}
    for method, sorts in noise_of(read_packed(find_study("noise").packed("quick"))).items():
        for metric, tasks in sorts["training"].items():
            for task, values in tasks.items():
                if method not in references:
                    key = (method, task.split("/")[0], metric)
                    found[key] = max(found.get(key, 0.0), stdev(values))
    return found


def source(found: dict[tuple[str, str, str], float]) -> str:
    """Return the two tables: the assumed noise of each metric that was measured, and what exceeds it."""
    assumed: dict[str, float] = {}
    for metric in METRICS.values():
        measured = [value for (_, _, name), value in found.items() if name == metric.name]
        if measured:
            most = max(metric.tolerance, quantiles(measured, n=20, method="inclusive")[-1])
            assumed[metric.name] = metric.tolerance if metric.name in MAIN else most
    noisy = {key: value for key, value in sorted(found.items()) if value > assumed[key[2]]}
    return "\n".join(
        [
            f"# of {len(found)} (method, family, metric), {len(noisy)} exceed what is assumed of the metric",
            "ASSUMED: dict[str, float] = {",
            *(f'    "{name}": {value:.4g},' for name, value in assumed.items()),
            "}",
            "NOISY: dict[tuple[str, str, str], float] = {",
            *(
                f'    ("{method}", "{family}", "{name}"): {value:.4g},'
                for (method, family, name), value in noisy.items()
            ),
            "}\n",
        ]
    )


def main() -> None:
    """Write the table."""
    before, _, rest = FILE.read_text(encoding="utf-8").partition(BEGIN)
    FILE.write_text(f"{before}{BEGIN}{source(deviations())}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
