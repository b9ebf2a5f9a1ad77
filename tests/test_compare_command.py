"""`lrbench compare` as a command: exit codes, git revisions, and the example for CI."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lrbench.cli import main
from lrbench.leaderboard.compare_source import NotThere, read_side
from lrbench.record import Provenance, Record, Timing
from lrbench.store import Store

ROOT = Path(__file__).parent.parent
WORKFLOW = ROOT / "examples" / "ci" / "github-actions.yml"


def record(method: str, task: str = "a/x", seed: int = 0, headline: float | None = 0.8) -> Record:
    """A record, failed if without a headline."""
    return Record(
        task=task, family=task.split("/")[0], suite="quick", seed=seed, task_hash=f"hash {task}", world_hash="w",
        method=method, pair="autoencoder", kind="sdl", source_hash="one",
        status="failed" if headline is None else "ok", reason="ValueError: no" if headline is None else None,
        scores={} if headline is None else {"headline": headline, "f1": 0.7},
        provenance=Provenance(lrbench="0", python="3", platform="p", packages={}, commit=None, dirty=None, device="cpu"),
        timing=Timing(seconds=1.0, finished="2025-01-01T00:00:00+00:00"),
    )  # fmt: skip


def run(methods: str = "mn", drop: float = 0.0) -> list[Record]:
    """Three tasks, two seeds; the first method's headline is lower by about the drop."""
    return [
        record(method, task, seed, 0.8 - (method == methods[0]) * drop * (1 + 0.1 * seed))
        for method in methods
        for task in ("a/x", "b/y", "c/z")
        for seed in (0, 1)
    ]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    runs = {
        "base": run(),
        "same": run(),
        "worse": run(drop=0.06),
        "fails": [record("m", headline=None), *run()[1:]],
        "elsewhere": run("o"),
        "part": run()[:1],
        "doubt": [record("m", headline=0.77)],
        "allfailed": [record("o", headline=None)],
    }
    for name, records in runs.items():
        for one in records:
            Store(name).write(one)
    Path("empty").mkdir()
    Path("FILE").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("base same", 0, "NO REGRESSION: none of 4 scores got worse"),
        ("worse base", 0, "NO REGRESSION"),
        ("base worse", 1, "REGRESSION: 1 of 4 scores got worse"),
        ("base worse --metric f1", 0, "NO REGRESSION: none of 2 scores got worse"),
        ("base worse --metric f1 --metric headline", 1, "REGRESSION: 1 of 4 scores got worse"),
        ("base part", 0, "NO REGRESSION: none of 2 scores got worse; compared 1 of 12 cells of base"),
        ("base part --require-all", 1, "--require-all: 11 of 12 cells with a value in base lack it: a/x[m-seed1], "),
        ("base same --require-all", 0, "NO REGRESSION"),
        ("part base --require-all", 0, "compared 1 of 1 cells of base"),
        (
            "part doubt",
            3,
            "CANNOT TELL: 1 of 2 scores lost more than the tolerance, which may be noise: m headline -0.030; run both",
        ),
        ("base fails", 1, "REGRESSION: 1 cell fails that did not, of m"),
        ("missing base", 3, "missing is neither a results folder nor a git revision"),
        ("empty base", 3, "NOT COMPARABLE: base holds no record"),
        ("base elsewhere", 3, "NOT COMPARABLE: no method is shared"),
        ("base empty", 4, "NOTHING MEASURED: head holds no value of headline, f1 (no record)"),
        ("base allfailed", 4, "NOTHING MEASURED: head holds no value of headline, f1 (1 failed)"),
    ],
)
def test_exit_codes(folders: Path, capsys: pytest.CaptureFixture[str], arguments: str, code: int, says: str) -> None:
    assert main(["compare", *arguments.split()]) == code
    out, err = capsys.readouterr()
    assert says in out
    assert err == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("base", "HEAD"),
        ("base missing", "missing is neither a results folder nor a git revision"),
        ("base same --metric f2", "unknown metric 'f2': expected one of headline, "),
        ("base same --metric l0", "metric 'l0' has no better direction"),
        ("base FILE", "FILE: is no readable file of records"),
        ("FILE base", "FILE: is no readable file of records"),
        ("base same --markdown empty", "cannot write empty: Is a directory"),
        ("base same --json FILE/below.json", "cannot write FILE/below.json: "),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    folders: Path, capsys: pytest.CaptureFixture[str], arguments: str, says: str
) -> None:
    assert main(["compare", *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert says in err


@pytest.mark.parametrize(("head", "code"), [("worse", 1), ("same", 0), ("empty", 4)])
@pytest.mark.parametrize("reader", ["true", "head -1", "exec <&-; sleep 0.5"])
def test_the_exit_code_is_the_verdict_whoever_reads(folders: Path, head: str, code: int, reader: str) -> None:
    for i in range(300):  # more than a pipe holds
        Path(f"{head}/{i}{'x' * 200}.json").write_text("{")
    command = f"{sys.executable} -m lrbench.cli compare base {head} | ({reader}); echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(code)
    assert done.stderr == ""


def test_a_full_disk_behind_stdout_is_one_line_and_the_verdict_stands(folders: Path) -> None:
    command = [sys.executable, "-m", "lrbench.cli", "compare", "base", "worse"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: cannot write to stdout: No space left on device; send it to another place\n"


def test_files_are_written_whatever_the_verdict(folders: Path) -> None:
    for base, head, code in (("base", "worse", 1), ("missing", "base", 3), ("base", "empty", 4)):
        files = ["--markdown", f"{code}/report.md", "--json", f"{code}/report.json"]
        assert main(["compare", base, head, *files]) == code
        assert Path(f"{code}/report.md").read_text().startswith("### ")
        assert json.loads(Path(f"{code}/report.json").read_text())["exit_code"] == code


def test_a_file_that_is_no_record_is_named(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("same/quick/broken.json").write_text("{")
    assert main(["compare", "base", "same"]) == 0
    assert "head: quick/broken.json" in capsys.readouterr().out


def test_comparing_loads_neither_torch_nor_pandas(folders: Path) -> None:
    code = "import sys; from lrbench.cli import main; main(['compare', 'base', 'worse']);"
    code += "print([name for name in ('torch', 'pandas', 'matplotlib', 'scipy.stats') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# git


def git(*arguments: str, cwd: Path | str = ".") -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *arguments], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_git_revision_is_read_without_a_checkout(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    git("init")
    shutil.copytree("base", "results")
    Path("results/quick/a ü.json").write_text("{")
    Path("results/link.json").symlink_to("quick/a ü.json")
    git("add", "results")
    git("commit", "-m", "one")
    git("tag", "v1")
    shutil.rmtree("results")
    shutil.copytree("worse", "nested/deep")
    git("add", "--all", "results", "nested")
    git("commit", "-m", "two")
    shutil.rmtree("nested")
    before = git("status", "--porcelain")

    side = read_side("v1")
    assert list(side.records) == Store("base").read()[0]
    assert side.set_aside == (
        ("quick/a ü.json", "is not complete JSON: truncated or foreign"),
        ("link.json", "is a symbolic link, which is not followed"),
    )
    for arguments, code in (
        ("v1 same", 0),
        ("v1:results same", 0),
        ("v1 HEAD:nested/deep", 1),
        ("v1 HEAD:nested/deep/", 1),
        ("HEAD~1 same", 0),
        ("HEAD same", 3),
        ("base HEAD", 2),
        ("base v2", 2),
        ("v2 base", 3),
    ):
        assert main(["compare", *arguments.split()]) == code, arguments
    captured = capsys.readouterr()
    assert "the git revision HEAD holds no folder results" in captured.out
    assert "the git revision HEAD holds no folder results" in captured.err
    assert git("status", "--porcelain") == before


def tree(*entries: tuple[str, str, str]) -> str:
    """Write a git tree as git itself never would, and return its name; an entry is a mode, a name and an object."""
    content = b"".join(f"{mode} {name}".encode() + b"\0" + bytes.fromhex(blob) for mode, name, blob in entries)
    command = ["git", "hash-object", "--literally", "-t", "tree", "-w", "--stdin"]
    return subprocess.run(command, input=content, capture_output=True, check=True).stdout.decode().strip()


def committed(results: str) -> str:
    """Commit a tree as the folder ``results`` and return the commit."""
    return git("commit-tree", "-m", "one", tree(("40000", "results", results)))


@pytest.mark.parametrize("side", ["base", "head"])
@pytest.mark.parametrize("name", ["..", ".", "/tmp/lrbench-evil", "a/../../b", "a\\b"])
def test_a_tree_that_leads_out_of_its_folder_is_refused(
    folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, side: str
) -> None:
    git("init")
    Path("outside.json").write_text("{}")
    blob = git("hash-object", "-w", "outside.json")
    monkeypatch.setenv("TMPDIR", str(folders / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    Path("tmp").mkdir()
    revision = committed(tree(("40000", name, tree(("100644", "evil.json", blob)))))
    assert main(["compare", *((revision, "base") if side == "base" else ("base", revision))]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"{name}/evil.json".replace("\\", "\\\\") in err
    assert "leads out of its folder" in err
    assert list(Path("tmp").iterdir()) == []
    assert not list(folders.rglob("evil.json"))


def test_a_tree_that_cannot_be_unpacked_is_refused_in_one_line(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git("init")
    Path("outside.json").write_text("{}")
    blob = git("hash-object", "-w", "outside.json")
    twice = committed(tree(("100644", "a.json", blob), ("40000", "a.json", tree(("100644", "b.json", blob)))))
    assert main(["compare", twice, "base"]) == 2
    assert "holds an entry 'a.json/b.json' that cannot be unpacked" in capsys.readouterr().err


def test_links_and_submodules_of_a_tree_are_named_and_not_followed(folders: Path) -> None:
    git("init")
    Path("target").write_text("/etc")
    blob = git("hash-object", "-w", "target")
    side = read_side(committed(tree(("120000", "folder", blob), ("160000", "module", "1" * 40))))
    assert side.records == ()
    assert side.set_aside == (
        ("folder", "is a symbolic link, which is not followed"),
        ("module", "is a submodule, which is not followed"),
    )


def test_without_git_there_are_folders_only(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert len(read_side("base").records) == 12
    with pytest.raises(NotThere, match="git is not installed"):
        read_side("HEAD")


# the example for CI


def steps() -> dict[str, str]:
    workflow = YAML(typ="safe").load(WORKFLOW.read_text())
    return {
        step["name"]: step["run"] for step in workflow["jobs"]["measure"]["steps"] if {"name", "run"} <= step.keys()
    }


def test_workflow_follows_githubs_schema(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    own = ROOT / ".github" / "workflows" / "tests.yml"
    done = subprocess.run([*command, str(WORKFLOW), str(own)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    broken = tmp_path / "broken.yml"
    broken.write_text(WORKFLOW.read_text().replace("runs-on: ubuntu-latest", "runs: ubuntu-latest"))
    assert subprocess.run([*command, str(broken)], capture_output=True).returncode == 1


def test_workflow_compares_by_the_code_of_main(folders: Path) -> None:
    git("init", "--bare", "origin.git")
    git("clone", "origin.git", "clone")
    clone = folders / "clone"
    for branch, rules in (("main", "strict"), ("mine", "lax")):
        git("checkout", "-B", branch, cwd=clone)
        (clone / "rules").write_text(rules)
        git("add", "rules", cwd=clone)
        git("commit", "-m", branch, cwd=clone)
        git("push", "origin", branch, cwd=clone)
    Path("pip").write_text('#!/bin/sh\ncat "$2/rules" > installed\n')
    Path("pip").chmod(0o755)
    environment = os.environ | {
        "PATH": f"{folders}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_BASE_REF": "main",
        "RUNNER_TEMP": str(folders / "temp"),
    }
    subprocess.run(["bash", "-e", "-c", steps()["Install main's lrbench"]], cwd=clone, env=environment, check=True)
    assert (clone / "installed").read_text() == "strict"


def test_workflow_steps_keep_records_and_compare_with_them(folders: Path) -> None:
    git("init", "--bare", "origin.git")
    git("clone", "origin.git", "clone")
    clone = folders / "clone"
    (clone / "code.py").touch()
    (clone / ".gitignore").write_text("results/\n")
    git("add", "--all", cwd=clone)
    git("commit", "-m", "code", cwd=clone)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_STEP_SUMMARY": str(folders / "summary.md"),
        "GITHUB_SHA": "abc",
    }

    def step(name: str, records: str) -> int:
        shutil.rmtree(clone / "results", ignore_errors=True)
        shutil.copytree(records, clone / "results")
        command = ["bash", "-e", "-c", steps()[name]]
        return subprocess.run(command, cwd=clone, env=environment, capture_output=True).returncode

    assert step("Compare with main's records", "same") == 0  # main has none yet, which is no failure
    assert "not comparable" in (clone / "report.md").read_text()
    assert step("Keep the records as main's", "base") == 0
    assert git("ls-tree", "--name-only", "lrbench-records", cwd="origin.git") == "results"
    git("checkout", "--force", "-B", "main", cwd=clone)
    assert step("Compare with main's records", "same") == 0
    assert "### ✅ lrbench: no regression" in (folders / "summary.md").read_text()
    assert step("Compare with main's records", "worse") == 1
    assert step("Compare with main's records", "empty") == 4
