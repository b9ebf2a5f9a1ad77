"""Files of results and dictionaries hold numbers and text only: nothing of lrbench reads a pickle, loading runs no code."""

from __future__ import annotations

import ast
import json
import pickle
from pathlib import Path

import pytest
import torch

import lrbench
from lrbench.activation import TopK
from lrbench.errors import LrbenchError
from lrbench.store import Store

ROOT = Path(__file__).parent.parent
SOURCES = [
    path for package in ("lrbench", "tasks", "methods", "leaderboard") for path in (ROOT / package).rglob("*.py")
]
READERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {
    "torch.load", "torch.save", "np.load", "numpy.load", "np.save", "pd.read_pickle", "pandas.read_pickle", "torch.jit.load",
    "yaml.load", "eval",
}  # fmt: skip
# One place unpickles: what a worker process answered through its pipe; and one runs a file, because it is a method.
ALLOWED = {("pool.py", "pickle"), ("pool.py", "pickle.loads"), ("files.py", "exec")}


class _Bomb:
    """Pickled, it makes a file where it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def code_runners(path: Path) -> set[tuple[str, str]]:
    """Return what in a source file could run code that it reads."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] in READERS}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in READERS:
            found.add(str(node.module))
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in CALLS or name == "exec" or name.split(".")[0] in READERS:
                found.add(name)
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found.add("allow_pickle")
    return {(path.name, name) for name in found}


def test_nothing_unpickles_a_file() -> None:
    assert len(SOURCES) > 40
    assert set().union(*map(code_runners, SOURCES)) == ALLOWED


def test_the_search_would_find_one(tmp_path: Path) -> None:
    source = tmp_path / "bad.py"
    source.write_text(
        "import pickle\nfrom joblib import load\nimport torch\ntorch.load('x')\nnp.open(allow_pickle=1)\n"
    )
    assert {name for _, name in code_runners(source)} == {"pickle", "joblib", "torch.load", "allow_pickle"}


def bomb(tmp_path: Path) -> tuple[bytes, Path]:
    """Return a pickle that marks its being loaded, after a proof that it does, and the mark."""
    mark = tmp_path / "mark"
    content = pickle.dumps(_Bomb(mark))
    pickle.loads(content)
    assert mark.exists()
    mark.unlink()
    return content, mark


def test_loading_a_dictionary_runs_no_code(tmp_path: Path) -> None:
    content, mark = bomb(tmp_path)
    path = tmp_path / "d.safetensors"
    path.write_bytes(content)
    with pytest.raises(LrbenchError, match="cannot be read as a dictionary"):
        lrbench.Dictionary.load(path)
    torch.save({"W_enc": torch.ones(2, 2), "x": _Bomb(mark)}, path)
    with pytest.raises(LrbenchError, match="cannot be read as a dictionary"):
        lrbench.Dictionary.load(path)
    assert not mark.exists()


def test_a_saved_dictionary_is_a_header_in_json_and_numbers(tmp_path: Path) -> None:
    path, w = tmp_path / "d.safetensors", torch.ones(3, 2)
    lrbench.Dictionary(w, None, w, None, TopK(2)).save(path)
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    numbers = sum(
        entry["data_offsets"][1] - entry["data_offsets"][0] for name, entry in header.items() if name != "__metadata__"
    )
    assert len(content) == 8 + size + numbers


@pytest.mark.parametrize("name", ["r.json", "smoke/noise/0.3/pca.seed0.json"])
def test_reading_records_runs_no_code(tmp_path: Path, name: str) -> None:
    content, mark = bomb(tmp_path)
    path = tmp_path / "results" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    records, problems = Store(tmp_path / "results").read()
    assert records == []
    assert [problem.path for problem in problems] == [path]
    assert not mark.exists()
