"""Print figures of the structure: sizes, rooms, imports and the English of docstrings.

    python tests/architecture/figures.py [--root CHECKOUT]

Another checkout, also an older one, is measured by the same rules.
"""

import argparse
import re
import sys
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parents[2]
sys.path.insert(0, str(HERE / "tests" / "support"))

from source_tree import (  # noqa: E402 - found by the line above
    circles,
    docstrings,
    first_line,
    folders,
    functions,
    import_graph,
    modules,
    room_graph,
)

PACKAGES = "service/textcam_service", "client/textcam_client"
REGISTERS = {
    "What, Who, Whether, Where, Of, As ...": r"(What|Who\w*|Whether|Where|Which|Of|As|How|Told)\b",
    "who, whoever, whom, whose, nobody": r".*\b(who|whoever|whom|whose|nobody)\b",
    "told, tell": r".*\b(told|tells?)\b",
}


def top(counts: dict[str, int], count: int = 5) -> str:
    """Format the largest of named counts."""
    return ", ".join(f"{name} {size}" for name, size in Counter(counts).most_common(count))


def levels(graph: dict[str, set[str]]) -> int:
    """Count the floors of a graph; rooms of a circle share one."""
    member = {room: min(circle) for circle in circles(graph) for room in circle}
    floors: dict[str, int] = {}

    def floor(room: str) -> int:
        if room not in floors:
            circle = [own for own in graph if member.get(own, own) == room]
            below = {member.get(low, low) for own in circle for low in graph[own]} - {room}
            floors[room] = 1 + max(map(floor, below), default=0)
        return floors[room]

    return max((floor(member.get(room, room)) for room in graph), default=0)


def report(package: Path) -> None:
    """Print the figures of one package."""
    known = modules(package)
    found = [own for own in known.values() if not own.is_package]
    own_functions = [(name, own) for name, module in known.items() for own in functions(module)]
    sizes = {name: module.lines for name, module in known.items()}
    bodies = {f"{name}:{own.name}": own.body_lines for name, own in own_functions}
    given = {f"{name}:{own.name}": own.parameters for name, own in own_functions}
    flat = {folder: len(names) for folder, names in folders(known).items()}
    lines = sum(sizes.values())
    count = len(own_functions)
    print(f"\n## {package.name}: {len(found)} modules, {lines:,} lines, {count} functions")
    large = sum(number > 12 for number in flat.values())
    print(f"folders: {len(flat)}, over 12 modules {large}: {top(flat)}")
    print(f"modules: over 300 lines {sum(n > 300 for n in sizes.values())}: {top(sizes)}")
    print(f"functions: over 40 body lines {sum(n > 40 for n in bodies.values())}: {top(bodies)}")
    print(f"parameters: over 7 {sum(n > 7 for n in given.values())}: {top(given)}")
    texts = [text for module in known.values() for _, text in docstrings(module)]
    for register, pattern in REGISTERS.items():
        hits = sum(bool(re.match(pattern, first_line(text))) for text in texts)
        print(f"first lines, {register}: {hits} of {len(texts)}, {hits / len(texts):.1%}")
    graph = import_graph(known)
    print(f"circles of modules: {len(circles(graph))}")
    for name in [name for name, module in known.items() if module.is_package]:
        rooms = room_graph(graph, name)
        if len(rooms) > 3:
            edges = sum(map(len, rooms.values()))
            print(
                f"rooms of {name}: {len(rooms)}, floors {levels(rooms)}, edges {edges}, "
                f"circles {len(circles(rooms))}"
            )
    label = package.name.removeprefix("textcam_")
    tests = list((package.parents[1] / "tests" / "unit").rglob("test_*.py"))
    mirrored = sum(
        any(
            path.parent.relative_to(package.parents[1] / "tests" / "unit").as_posix()
            == "/".join([label, *module.path.parent.relative_to(package).parts])
            and f"{path.stem}_".startswith(f"test_{module.path.stem.lstrip('_')}_")
            for path in tests
        )
        for module in found
    )
    print(f"modules with a unit test in the mirror: {mirrored} of {len(found)}")


def main() -> None:
    """Print the figures of a checkout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=HERE, help="the checkout; default: this one")
    root = parser.parse_args().root.resolve()
    for package in PACKAGES:
        report(root / package)
    long_tests = {
        path.relative_to(root).as_posix(): lines
        for path in (root / "tests").rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 430
    }
    print(f"\ntest files over 430 lines: {len(long_tests)}: {top(long_tests, 20)}")


if __name__ == "__main__":
    main()
