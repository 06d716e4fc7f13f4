"""Which package may import which: the picture in CONTRIBUTING.md as a table, checked in every file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "asyncpipe"

ALLOWED = {
    "errors": set[str](),
    "kernels": set[str](),
    "ir": {"errors"},
    "tables": {"errors", "ir"},
    "schedule": {"errors", "ir", "tables"},
    "codes": {"errors"},
    "passes": {"errors", "schedule", "ir", "tables"},
    "analysis": {"errors", "schedule", "ir", "passes"},
    "verify": {"errors", "schedule", "ir", "passes", "analysis"},
    "compiler": {"errors", "schedule", "ir", "passes", "analysis", "verify"},
    "exchange": {"errors", "schedule", "ir", "tables", "passes", "analysis", "compiler"},
    "pictures": {"errors", "ir"},
    "api": {"schedule", "ir", "analysis", "compiler"},
    "staging": {"errors", "schedule"},
    "runtime": {"errors", "ir", "kernels"},
    "options": {"errors"},
    "models": {"errors", "options"},
    "data": {"errors", "options"},
    "jobs": {"errors", "schedule", "runtime", "models", "data"},
    "training": {"errors", "schedule", "ir", "analysis", "compiler", "verify", "staging"}
    | {"runtime", "models", "data", "jobs"},
    "tools": {"asyncpipe", "errors", "schedule", "ir", "analysis", "compiler", "pictures", "runtime", "kernels"}
    | {"models", "data", "jobs", "training", "staging", "verify"},
    "cli": {"asyncpipe", "codes", "errors", "schedule", "ir", "tables", "passes", "analysis", "verify", "compiler"}
    | {"exchange", "staging", "pictures"}
    | {"runtime", "models", "data", "jobs", "training", "tools"},
    "__main__": {"cli"},
    "asyncpipe": {"api", "schedule", "training"},   # asyncpipe/__init__.py
}  # fmt: skip

WITHOUT_TORCH = [
    "errors",
    "codes",
    "tables",
    "schedule",
    "ir",
    "passes",
    "verify",
    "analysis",
    "compiler",
    "exchange",
    "pictures",
    "api",
    "staging",
    "cli",
]
HEAVY = {"torch", "functorch", "triton", "pynvml"}
OPTIONAL = {"pynvml", "PIL"}
WITH_TORCH = {"functorch", "triton"}
"""Torch's own distribution brings these along."""


@dataclass(frozen=True)
class Import:
    """One name that a file imports; `lazy` inside a function or for type checkers only."""

    package: str
    file: Path
    line: int
    name: str
    lazy: bool

    @property
    def target(self) -> str | None:
        """The package of asyncpipe that is imported, `asyncpipe` for the door itself, None for others."""
        top, _, rest = self.name.partition(".")
        if top != "asyncpipe":
            return None
        first = rest.partition(".")[0]
        return first if first in ALLOWED else "asyncpipe"

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}: {self.package} imports {self.name}"


def python_files() -> Iterator[tuple[str, Path]]:
    """Yield each source file with the package it belongs to, through the links."""
    for top in sorted(PACKAGE.iterdir()):
        if top.suffix == ".py":
            yield ("asyncpipe" if top.stem == "__init__" else top.stem), top
        elif top.is_dir():
            yield from ((top.name, file) for file in sorted(top.rglob("*.py")))


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def import_nodes(node: ast.AST, lazy: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Yield every import statement below `node`, and whether it runs only later or never."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, lazy
        inner_lazy = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or is_type_checking(child)
        yield from import_nodes(child, inner_lazy)


def imported_names(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Spell out `from asyncpipe import ir` as asyncpipe.ir; of other packages the module is enough."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    module = "." * node.level + (node.module or "")
    return [f"{module}.{alias.name}" for alias in node.names] if module == "asyncpipe" else [module]


def imports_of(package: str, file: Path, source: str) -> list[Import]:
    return [
        Import(package, file, node.lineno, name, lazy)
        for node, lazy in import_nodes(ast.parse(source))
        for name in imported_names(node)
    ]


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    return [found for package, file in python_files() for found in imports_of(package, file, file.read_text())]


def lines(found: Iterable[Import]) -> str:
    """One line each: pytest shows a text whole, but shortens a list."""
    return "\n".join(map(str, found))


def is_forbidden(found: Import) -> bool:
    return found.target is not None and found.target not in ALLOWED[found.package] | {found.package}


def test_every_package_has_a_place_in_the_table() -> None:
    assert {package for package, _ in python_files()} <= set(ALLOWED)


def test_packages_import_only_what_lies_below(imports: list[Import]) -> None:
    assert lines(found for found in imports if is_forbidden(found)) == ""


def test_table_has_no_cycle() -> None:
    """Take away what imports nothing that is left, until nothing is left; `tools` and `cli` see the door."""
    left = {package: below - {"asyncpipe"} for package, below in ALLOWED.items()}
    while free := {package for package, below in left.items() if not below & left.keys()}:
        left = {package: below for package, below in left.items() if package not in free}
    assert left == {}


def test_only_main_imports_the_command_line() -> None:
    assert [package for package, below in ALLOWED.items() if "cli" in below] == ["__main__"]


def test_planning_never_imports_torch(imports: list[Import]) -> None:
    """The command line may, inside the function of a command that runs something."""
    planning = [i for i in imports if i.package in WITHOUT_TORCH and i.name.partition(".")[0] in HEAVY]
    assert lines(found for found in planning if not (found.lazy and found.package == "cli")) == ""


def test_kernels_import_only_torch_and_triton(imports: list[Import]) -> None:
    allowed = sys.stdlib_module_names | {"torch", "triton", "asyncpipe"}
    outside = [i for i in imports if i.package == "kernels" and i.name.partition(".")[0] not in allowed]
    assert lines(outside) == ""


def test_other_libraries_are_declared_dependencies(imports: list[Import]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w-]", requirement)[0] for requirement in project["dependencies"]}
    known = sys.stdlib_module_names | declared | OPTIONAL | WITH_TORCH | {"asyncpipe"}
    assert lines(found for found in imports if found.name.partition(".")[0] not in known) == ""


@pytest.mark.parametrize(
    ("package", "source", "forbidden"),
    [
        ("kernels", "from asyncpipe.errors import UserError", True),
        ("runtime", "import asyncpipe.compiler", True),
        ("runtime", "def f():\n    from asyncpipe import schedule", True),
        ("runtime", "from asyncpipe.ir.program import Program", False),
        ("runtime", "from asyncpipe import load", True),
        ("cli", "from asyncpipe import __version__", False),
        ("tools", "from asyncpipe.cli import main", True),
        ("passes", "from asyncpipe.passes.base import Pass", False),
    ],
)
def test_rule_tells_good_from_bad(package: str, source: str, forbidden: bool) -> None:
    (found,) = imports_of(package, PACKAGE / "x.py", source)
    assert is_forbidden(found) is forbidden


def modules_loaded_by(imported: list[str]) -> set[str]:
    """Return the top-level names in sys.modules after a new interpreter has imported these modules."""
    code = f"import sys, {', '.join(imported)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_command_line_starts_without_heavy_libraries() -> None:
    loaded = modules_loaded_by(["asyncpipe", "asyncpipe.cli"])
    assert loaded & {"torch", "numpy", "rich", "triton", "pynvml"} == set()


def test_planning_loads_without_torch() -> None:
    files = [file for package, file in python_files() if package in WITHOUT_TORCH]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    assert modules_loaded_by([name.removesuffix(".__init__") for name in names]) & HEAVY == set()
