"""What the other tests of this folder rely on: facts about source are found."""

import pytest
from source_tree import (
    circles,
    docstrings,
    first_line,
    folders,
    functions,
    import_graph,
    imported,
    modules,
    room_graph,
)

FILES = {
    "house/__init__.py": "",
    "house/hall.py": "import numpy as np\nfrom house.kitchen import stove\n",
    "house/kitchen/__init__.py": "",
    "house/kitchen/stove.py": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.cellar import wine\n"
    ),
    "house/kitchen/sink.py": "from . import stove\nfrom .stove import pot\n",
    "house/cellar.py": "def late():\n    import house.hall\n",
    "house/words.py": '''"""Words.

More.
"""

LIMIT = 3
"""Most of them."""


class Word:
    """
    A word.
    """

    def spell(self, text, *rest, loud=False, **more):
        """Spell it.

        Aloud.
        """
        first = text

        def inner(a, b):
            return a

        return inner
''',
}


@pytest.fixture
def house(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return modules(tmp_path / "house")


def test_imports_are_found_wherever_they_stand(house):
    assert set(imported(house["house.hall"])) == {"numpy", "house.kitchen.stove"}
    assert import_graph(house) == {
        "house": set(),
        "house.hall": {"house.kitchen.stove"},
        "house.kitchen": set(),
        "house.kitchen.stove": {"house.cellar"},
        "house.kitchen.sink": {"house.kitchen.stove"},
        "house.cellar": {"house.hall"},
        "house.words": set(),
    }


def test_circles_of_modules_and_of_rooms_are_found(house):
    graph = import_graph(house)
    assert circles(graph) == [["house.cellar", "house.hall", "house.kitchen.stove"]]
    assert circles(room_graph(graph, "house")) == [["house.cellar", "house.hall", "house.kitchen"]]
    assert circles(room_graph(graph, "house.kitchen")) == []
    assert circles({"a": {"b"}, "b": set(), "c": {"d"}, "d": {"c"}}) == [["c", "d"]]


def test_folders_list_their_own_modules(house):
    assert folders(house) == {
        "house": ["house.cellar", "house.hall", "house.words"],
        "house.kitchen": ["house.kitchen.sink", "house.kitchen.stove"],
    }


def test_functions_have_their_sizes(house):
    found = {own.name: (own.body_lines, own.parameters) for own in functions(house["house.words"])}
    assert found == {"Word.spell": (6, 2), "Word.spell.inner": (1, 2)}


def test_docstrings_are_those_of_modules_classes_functions_and_attributes(house):
    found = [first_line(text) for _, text in docstrings(house["house.words"])]
    assert sorted(found) == ["A word.", "Most of them.", "Spell it.", "Words."]
