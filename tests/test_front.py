"The front page: its map has the chapters of the sidebar, each leads to its page, and no word leaves the drawing."
import re
import sys
from pathlib import Path

import nbformat
from tools import equal

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE / "checks"))
from chapter_map import parts, with_map  # noqa: E402
from readme import page_name  # noqa: E402

CELLS = nbformat.read(HERE / "nbs" / "index.ipynb", as_version=4).cells
TABLES = next(cell.source for cell in CELLS if "## The chapters" in cell.source)


def test_the_tables_are_the_sidebar():
    sidebar = (HERE / "_quarto.yml").read_text(encoding="utf-8").split("sidebar:")[1]
    equal([[name, [notebook for _, _, notebook, _ in chapters]] for name, _, chapters in parts(TABLES)],
          [[name, re.findall(r"(\d\w+)\.ipynb", section)] for name, section in re.findall(r'section: "(.*?)"(.*?)(?=section:|\Z)', sidebar, re.S)])
    for _, _, chapters in parts(TABLES):
        for number, _, notebook, _ in chapters:
            first = next(cell.source for cell in nbformat.read(HERE / "nbs" / f"{notebook}.ipynb", as_version=4).cells if cell.source.startswith("# "))
            equal(notebook.split("_")[0], number)
            assert first.startswith(f"# {number} "), notebook


def test_each_other_page_of_the_sidebar_is_named_beside_the_map():
    sidebar = (HERE / "_quarto.yml").read_text(encoding="utf-8").split("sidebar:")[1]
    equal(set(re.findall(r"\]\((\w+\.qmd)\)", TABLES)), set(re.findall(r"- (\w+\.qmd)", sidebar)))


def test_both_drawings_have_each_chapter_as_a_link_inside_their_frame():
    drawn = with_map(TABLES)
    pages = [f"{page_name(notebook)}.html" for _, _, chapters in parts(TABLES) for _, _, notebook, _ in chapters]
    svgs = re.findall(r"<svg.*?</svg>", drawn, re.S)
    equal(len(svgs), 2)
    for svg in svgs:
        equal(re.findall(r'<a [^>]*href="([\w.]+)"', svg), pages)
        width, height = map(int, re.search(r'viewBox="0 0 (\d+) (\d+)"', svg).groups())
        frames = [tuple(map(float, frame)) for frame in re.findall(r'<foreignObject x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', svg)]
        equal(len(frames), len(pages))
        for n, (x, y, w, h) in enumerate(frames):
            assert x >= 0 and x + w <= width and y >= 0 and y + h <= height
            assert not any(x < x2 + w2 and x2 < x + w and y < y2 + h2 - 8 and y2 < y + h - 8 for x2, y2, w2, h2 in frames[:n]), "two lie over one another"
    assert "| chapter |" not in drawn


def test_text_without_tables_stays():
    equal(with_map("## A\n\n**Bold.** Text.\n"), "## A\n\n**Bold.** Text.\n")
