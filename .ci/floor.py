#!/usr/bin/env python3
"""The floor: installs the lowest versions that pyproject.toml declares into an environment of their own and tries them out.

`make floor` runs it. It needs network access, and as much disk as torch does.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
RUN = ["run", "--suite", "smoke", "--device", "cpu", "--out", "OUT", "--task", "noise/0.3", "--task", "absorption/even"]
METHODS = ("pca", "ica", "nmf", "kmeans", "ksvd", "topk_sae", "jumprelu_sae", "crosscoder", "truth")
USE = (
    ["--version"],
    ["run", "--help"],
    ["list", "methods"],
    [*RUN, *(word for method in METHODS for word in ("--method", method))],
    ["leaderboard", "OUT"],
    ["compare", "OUT", "OUT"],
    ["check", "topk_sae"],
)
MISUSE = (
    ["fly"],
    ["--colour"],
    ["list"],
    ["list", "task"],
    ["run", "--colour", "red"],
    ["run", "--seeds", "many"],
    ["run", "--method"],
    ["leaderboard"],
    ["compare", "OUT"],
    ["study"],
    ["study", "falsify", "extra"],
    ["certify", "missing"],
)


def lowest(requirements: list[str]) -> list[str]:
    """Return ``NAME==VERSION`` for every requirement that this Python has: the lowest version that it allows."""
    found = []
    for line in requirements:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        bounds = [bound.version for bound in requirement.specifier if bound.operator in (">=", "==", "~=")]
        if not bounds:
            raise SystemExit(f"{line}: has no lowest version")
        found.append(f"{requirement.name}=={max(bounds, key=Version)}")
    return found


def faults(command: Path, out: Path) -> list[str]:
    """Return what is wrong with the installed command: what should work and does not, and misuse that is not one line."""
    found = []
    for words in (*USE, *MISUSE):
        done = subprocess.run(
            [command, *(str(out) if word == "OUT" else word for word in words)], capture_output=True, text=True, cwd=out
        )
        shown = " ".join(words)
        if words in USE and done.returncode:
            found.append(f"{shown}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        elif words in MISUSE and (done.returncode, done.stdout, done.stderr.count("\n")) != (2, "", 1):
            found.append(f"{shown}: exit code {done.returncode}, expected 2 and one line\n{done.stderr[-2000:]}")
        print("FAULT" if found and found[-1].startswith(f"{shown}: ") else "ok", shown[:100], flush=True)
    return found


def main() -> int:
    """Install the floor, try it, and return an exit code."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    pinned, builders = lowest(declared["project"]["dependencies"]), lowest(declared["build-system"]["requires"])
    print(f"Python {sys.version.split()[0]}", *builders, *pinned, sep="\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="lrbench-floor-") as place:
        environment, out, constraints = Path(place) / "venv", Path(place) / "out", Path(place) / "constraints.txt"
        out.mkdir()
        constraints.write_text("\n".join(pinned) + "\n", encoding="utf-8")
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-cache-dir"]
        subprocess.run([*pip, *builders], check=True)
        installed = subprocess.run([*pip, "--no-build-isolation", "--constraint", constraints, ROOT])
        if installed.returncode:
            print("the lowest versions do not go together: raise a bound in pyproject.toml", file=sys.stderr)
            return installed.returncode
        found = faults(environment / "bin" / "lrbench", out)
    print("\n".join(found) or "the floor holds")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
