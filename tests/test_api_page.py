"The page of the API: a line for each name of `all` and for each module, and nothing that is not there."
import re
from pathlib import Path

import pytest
import torch

import cifar_gradcam.all as everything
from cifar_gradcam import _modidx

HERE = Path(__file__).resolve().parent.parent
PAGE = (HERE / "nbs" / "api.qmd").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| \[`(\w+)`\]\((\w+)\.ipynb(?:#(\w+))?\) \| (.+) \|$", PAGE, re.M)
MODULES = re.findall(r"^\| `([\w.]+)` \| .+ \| \[\w+\]\((\w+)\.ipynb\) \|$", PAGE, re.M)


def test_each_name_has_a_line_and_the_other_way_round():
    assert [name for name, *_ in ROWS] == everything.__all__


def test_at_most_thirty_names_none_twice():
    assert len(everything.__all__) == len(set(everything.__all__)) <= 30


def test_star_brings_these_names_and_no_others():
    names = {}
    exec("from cifar_gradcam.all import *", names)
    assert set(names) - {"__builtins__"} == set(everything.__all__)


@pytest.mark.parametrize("library", [torch, torch.nn, torch.nn.functional, torch.optim], ids=lambda module: module.__name__)
def test_no_name_hides_one_of_torch(library):
    assert not set(everything.__all__) & set(dir(library))


def test_links_lead_to_where_each_name_is_documented():
    documented = {}
    for module, names in _modidx.d["syms"].items():
        documented |= {name.removeprefix(f"{module}."): link for name, (link, _) in names.items()}
    for name, notebook, anchor, _ in ROWS:
        assert (HERE / "nbs" / f"{notebook}.ipynb").exists(), f"{name}: no notebook {notebook}"
        page = re.sub(r"^[0-9]+[a-z]?_", "", notebook) + ".html"
        if name in documented: assert documented[name] == f"{page}#{anchor}", name
        else: assert not anchor, f"{name} is no function: its link leads to the page"


def test_each_module_has_a_line():
    paths = [path for path in (HERE / "cifar_gradcam").rglob("*.py") if path.stem not in ("__init__", "__main__", "_modidx", "all")]
    modules = {".".join(path.relative_to(HERE / "cifar_gradcam").with_suffix("").parts): path for path in paths}
    assert sorted(name for name, _ in MODULES) == sorted(modules)
    for name, notebook in MODULES:
        assert f"nbs/{notebook}.ipynb" in modules[name].read_text(encoding="utf-8"), f"{name} is not exported from {notebook}"
