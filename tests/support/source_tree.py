"""Facts about Python source, read by ast: modules, imports, functions, docstrings, circles."""

import ast
import functools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

Graph = Mapping[str, Collection[str]]


@dataclass(frozen=True)
class Module:
    """One source file.

    Attributes:
        name: Dotted, of a package without `.__init__`.
        path: The file.
        text: Its content.
        tree: Its syntax tree.
    """

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """True for an `__init__.py`."""
        return self.path.name == "__init__.py"

    @property
    def lines(self) -> int:
        """Number of lines."""
        return len(self.text.splitlines())


@dataclass(frozen=True)
class Function:
    """One function or method.

    Attributes:
        name: Qualified within its module: "Client.explain".
        node: Its syntax.
    """

    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef

    @property
    def body_lines(self) -> int:
        """Lines of the body, docstring not counted."""
        body = self.node.body
        if ast.get_docstring(self.node, clean=False) is not None:
            body = body[1:]
        return body[-1].end_lineno - body[0].lineno + 1 if body else 0

    @property
    def parameters(self) -> int:
        """Number of parameters; self, cls, *args and **kwargs are not counted."""
        given = self.node.args
        names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
        return len(names) - (names[:1] in (["self"], ["cls"]))


@functools.cache
def modules(package: Path) -> dict[str, Module]:
    """Read the modules of a package's folder by name; generated stubs are left out."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        if "_pb2" in path.name or "__pycache__" in path.parts:
            continue
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text()
        found[name] = Module(name, path, text, ast.parse(text))
    return found


def imported(module: Module) -> Iterator[str]:
    """List dotted names that a module imports, wherever it does: `from a import b` gives "a.b"."""
    home = module.name.split(".")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = len(home) - node.level + module.is_package
            base = [*(home[:up] if node.level else []), *filter(None, [node.module])]
            yield from (".".join([*base, alias.name]) for alias in node.names)


def import_graph(known: Mapping[str, Module]) -> dict[str, set[str]]:
    """Map each module to the others among `known` that it imports."""
    graph = {}
    for name, module in known.items():
        found = (_owner(target, known) for target in imported(module))
        graph[name] = {target for target in found if target is not None} - {name}
    return graph


def _owner(target: str, known: Mapping[str, Module]) -> str | None:
    while target and target not in known:
        target = target.rpartition(".")[0]
    return target or None


def folders(known: Mapping[str, Module]) -> dict[str, list[str]]:
    """Map each package to the modules that lie in it directly, `__init__` not counted."""
    found: dict[str, list[str]] = {name: [] for name in known if known[name].is_package}
    for name in known:
        if not known[name].is_package:
            found.setdefault(name.rpartition(".")[0], []).append(name)
    return found


def room_graph(graph: Graph, package: str) -> dict[str, set[str]]:
    """Lift an import graph to a package's rooms: its modules, and its packages as wholes."""
    depth = package.count(".") + 2

    def room(name: str) -> str | None:
        inside = name.startswith(f"{package}.")
        return ".".join(name.split(".")[:depth]) if inside else None

    rooms: dict[str, set[str]] = {}
    for name, targets in graph.items():
        if (own := room(name)) is not None:
            rooms.setdefault(own, set()).update(filter(None, map(room, targets)))
    return {own: targets - {own} for own, targets in rooms.items()}


def circles(graph: Graph) -> list[list[str]]:
    """Find sets of nodes that reach one another (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph.get(node, ()):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            place = stack.index(node)
            group = stack[place:]
            del stack[place:]
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def functions(module: Module) -> Iterator[Function]:
    """List a module's functions and methods, inner functions included."""

    def visit(node: ast.AST, prefix: str) -> Iterator[Function]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield Function(prefix + child.name, child)
                yield from visit(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.ClassDef):
                yield from visit(child, f"{prefix}{child.name}.")
            else:
                yield from visit(child, prefix)

    return visit(module.tree, "")


def docstrings(module: Module) -> Iterator[tuple[int, str]]:
    """List line and text of a module's docstrings, and of the strings that follow an attribute."""
    for node in ast.walk(module.tree):
        body = getattr(node, "body", None)
        for place, child in enumerate(body if isinstance(body, list) else ()):
            is_text = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            if not is_text or not isinstance(child.value.value, str):
                continue
            before = body[place - 1] if place else None
            owner = isinstance(
                node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
            )
            if (owner and not place) or isinstance(before, ast.Assign | ast.AnnAssign):
                yield child.lineno, child.value.value


def first_line(docstring: str) -> str:
    """Return the first line of a docstring that is not blank."""
    return next((line.strip() for line in docstring.splitlines() if line.strip()), "")


def listed(path: Path) -> set[str]:
    """Read a list of exceptions: one a line, `#` begins a comment."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return set(filter(None, lines))
