"""Studies by name: the built-in ones and any file that the user names. Listing imports none of them."""

from __future__ import annotations

import ast
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path

from lrbench.catalogue.files import import_file, modules
from lrbench.catalogue.imports import hash_of_code
from lrbench.errors import LrbenchError, UnknownName
from lrbench.study import Study


@dataclass(frozen=True)
class StudyInfo:
    """A study of the catalogue, or of a file that the user named.

    Parameters
    ----------
    name, summary
        The file's name without its ending, and the first line of its docstring.
    path
        The file; committed records lie beside it, see `packed`.
    source
        What `load_study` takes to load it again: a name or the file's path.
    """

    name: str
    summary: str
    path: Path
    source: str

    def packed(self, suite: str) -> Path:
        """Where the committed records of a suite lie: ``records/NAME-SUITE.jsonl.gz`` beside the study's file."""
        return self.path.parent / "records" / f"{self.name}-{suite}.jsonl.gz"


def study_catalogue() -> list[StudyInfo]:
    """Return every built-in study."""
    return [_described(path, name) for name, path in modules("studies").items()]


def find_study(name: str) -> StudyInfo:
    """Return a study by name or by the path of its file.

    Raises
    ------
    UnknownName
        For a name that does not exist.
    LrbenchError
        For a file that cannot be read.
    """
    if name.endswith(".py"):
        path = Path(name).resolve()
        return _described(path, str(path))
    built_in = modules("studies")
    if name not in built_in:
        raise UnknownName("study", name, built_in)
    return _described(built_in[name], name)


def load_study(source: str) -> Study:
    """Return a study from what `StudyInfo.source` says.

    Raises
    ------
    LrbenchError
        For a file that does not import or declares no study.
    """
    in_file = source.endswith(".py")
    module = import_file(Path(source)) if in_file else importlib.import_module(f"lrbench.studies.{source}")
    study = getattr(module, "STUDY", None)
    if not isinstance(study, Study):
        raise LrbenchError(f"{source}: expected STUDY = an lrbench.study.Study, found {type(study).__name__}")
    return study


def hash_of_measure(study: Study) -> str:
    """Return the hash of the code that a study's measure rests on, empty without a measure."""
    if study.measure is None:
        return ""
    return hash_of_code(Path(str(sys.modules[study.measure.__module__].__file__)))


def _described(path: Path, source: str) -> StudyInfo:
    try:
        tree = ast.parse(path.read_bytes())
    except OSError as error:
        raise LrbenchError(f"{path}: cannot be read ({error.strerror}); expected a Python file with a STUDY") from error
    except (SyntaxError, ValueError) as error:
        raise LrbenchError(f"{path}: is not valid Python ({error})") from error
    return StudyInfo(path.stem, (ast.get_docstring(tree) or "").split("\n")[0], path, source)
