"The house: every module stands on the map, imports go down, and nobody leans on the lab. Read from the source, nothing is imported."
import ast
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

HERE = Path(__file__).resolve().parent.parent
PACKAGE = HERE / "cifar_gradcam"
TUTORIAL = {"data", "augment", "resnet", "lr_finder", "train", "gradcam"}
# What every chapter of the lesson may lean on, and what one of them borrows besides.
GROUND = {"engine.files", "engine.devices", "engine.models", "engine.layers", "engine.datasets"}
LENT = {"train": {"engine.distributed", "engine.optimizers", "engine.runs"}, "gradcam": {"engine.figures", "mistakes.predictions"}}


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imported(node, package, inside=False):
    "Pairs of a module of the package that is imported below `node`, and whether a function does it."
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom):
            above = package[:len(package) - child.level + 1] if child.level else ()
            if child.level or (child.module or "").split(".")[0] == "cifar_gradcam":
                base = [*above, *(child.module or "").removeprefix("cifar_gradcam").strip(".").split(".")]
                base = ".".join(part for part in base if part)
                names = [".".join(filter(None, (base, alias.name))) for alias in child.names]
                for name in (base, *names): yield name, inside
        function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield from imported(child, package, inside or function)


def read_house():
    "For each module, what it imports when it is imported itself, and what its functions import."
    paths = {name_of(path): path for path in PACKAGE.rglob("*.py") if path.stem not in ("__init__", "_modidx")}
    at_once, later = {}, {}
    for name, path in paths.items():
        pairs = set(imported(ast.parse(path.read_text(encoding="utf-8")), path.relative_to(PACKAGE).parts[:-1]))
        at_once[name] = {module for module, inside in pairs if module in paths and not inside}
        later[name] = {module for module, inside in pairs if module in paths and inside}
    return at_once, later


AT_ONCE, LATER = read_house()


def heights():
    "How far below the roof each module stands on the map; its `translate` says it."
    tree = ElementTree.parse(HERE / "nbs" / "site" / "house.svg")
    return {group.get("id"): float(re.findall(r"[\d.]+", group.get("transform"))[1])
            for group in tree.iter("{http://www.w3.org/2000/svg}g")}


def test_every_module_stands_on_the_map_and_nothing_else():
    assert set(heights()) == set(AT_ONCE), "edit nbs/site/house.svg: a <g id> for each module"


def test_imports_point_down_on_the_map():
    place = heights()
    up = [f"{name} imports {below}" for name, modules in AT_ONCE.items() for below in modules if place[below] <= place[name]]
    assert not up, "move the importer up in nbs/site/house.svg, or lift what both need to a lower floor"


def test_a_circle_would_be_seen():
    modules = {"a": {"b"}, "b": {"c"}, "c": {"a"}}
    assert circle(modules) == ["a", "b", "c", "a"]
    assert circle({"a": {"b"}, "b": set()}) is None


def test_no_circle():
    assert circle(AT_ONCE) is None


def circle(imports):
    "A way from a module back to itself, or None."
    done = set()
    def walk(name, way):
        if name in way: return way[way.index(name):] + [name]
        if name in done: return None
        done.add(name)
        return next((ring for below in sorted(imports[name]) if (ring := walk(below, way + [name]))), None)
    return next((ring for name in sorted(imports) if (ring := walk(name, []))), None)


def test_nothing_leans_on_the_lab():
    outside = {name: AT_ONCE[name] | LATER[name] for name in AT_ONCE if not name.startswith("lab.")}
    users = {name for name, modules in outside.items() if any(module.startswith("lab.") for module in modules)}
    assert users <= {"engine.cli"}
    assert not any(module.startswith("lab.") for module in AT_ONCE["engine.cli"]), "import it inside the command"


@pytest.mark.parametrize("name", sorted(TUTORIAL))
def test_the_lesson_stands_on_the_ground_floor(name):
    assert AT_ONCE[name] <= TUTORIAL | GROUND | LENT.get(name, set())


@pytest.mark.parametrize("name", sorted(name for name in AT_ONCE if name.startswith("mistakes.")))
def test_mistakes_stand_on_the_lesson(name):
    lent = {"engine.figures", "engine.runs", "engine.download"}  # a figure's style, the network that ships, files
    beside = {module for module in AT_ONCE if module.startswith("mistakes.")}
    assert AT_ONCE[name] <= TUTORIAL | GROUND | lent | beside


def test_the_engine_knows_nothing_of_mistakes():
    engine = {name: modules for name, modules in AT_ONCE.items() if name.startswith("engine.") and name != "engine.cli"}
    assert not [name for name, modules in engine.items() if any(module.startswith("mistakes.") for module in modules)]


def test_names_on_the_way_of_a_picture():
    text = (HERE / "nbs" / "site" / "way.svg").read_text(encoding="utf-8")
    steps = re.findall(r'class="code"[^>]*>(\w+) · ([\w.]+)<', text)
    assert len(steps) == 18
    for name, module in steps:
        tree = ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        assert name in defined, f"nbs/site/way.svg names {name} of {module}"


@pytest.mark.parametrize("name", ["house", "way"])
def test_drawings_stand_on_light_and_dark(name):
    text = (HERE / "nbs" / "site" / f"{name}.svg").read_text(encoding="utf-8")
    assert set(re.findall(r"#[0-9a-fA-F]{3,6}\b", text)) == {"#7c7c7c"}, "one ink on a transparent ground: chapter 15"
    for page in ("nbs/api.qmd", "CONTRIBUTING.md"):
        assert f"site/{name}.svg" in (HERE / page).read_text(encoding="utf-8")


def test_a_cell_that_imports_computes_nothing():
    # When nbdev builds the site it runs each cell that imports something, and no other.
    mixed = []
    for path in sorted((HERE / "nbs").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] != "code" or re.search(r"^#\|\s*(hide|exports?)\b", source, re.M): continue
            body = ast.parse(source).body
            imports = [isinstance(node, ast.Import | ast.ImportFrom) for node in body]
            if any(imports) and not all(imports): mixed.append((path.name, cell["id"]))
    assert not mixed, "give the imports a cell of their own"
