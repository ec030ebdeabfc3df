"The notation of a chapter, as the site's filter `checks/reading.py` turns it into Quarto's."
import ast
import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tools import equal

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE / "checks"))
from reading import SITE, Fault, addresses, authors, described, read_bibliography, reading, tries  # noqa: E402
from signatures import FOLD, definitions, fields_of, signature  # noqa: E402

BIB = """@inproceedings{he2015deep,
  author = {He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian},
  title = {{Deep Residual Learning for Image Recognition}},
  booktitle = {CVPR},
  year = {2016},
  url = {https://arxiv.org/abs/1512.03385},
}

@article{owen2007pigeonhole,
  title = {The {"Pigeonhole"} Bootstrap},
  author = {Owen, Art B.},
  journal = {The Annals of Applied Statistics},
  pages = {386--411},
  year = {2007},
  doi = {10.1214/07-AOAS122}
}
"""
FIGURE = ("code", '#| label: fig-lag\n#| fig-alt: "A line."\nplot()')
CAPTION = ("markdown", '<a id="fig-lag"></a>*Figure: The line is "late".*')


def notebook(*cells):
    "A small notebook, as nbdev leaves one: front matter first."
    made = [{"cell_type": "raw", "id": "front", "metadata": {}, "source": "---\ntitle: Lines\n---\n\n"}]
    for i, (kind, source) in enumerate(cells):
        cell = {"cell_type": kind, "id": f"c{i}", "metadata": {}, "source": source.splitlines(keepends=True)}
        made.append(cell | ({"outputs": [], "execution_count": None} if kind == "code" else {}))
    return {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def read(*cells): return [cell | {"source": "".join(cell["source"])} for cell in reading(notebook(*cells), BIB)["cells"]]


def text_of(*cells): return "\n\n".join(cell["source"] for cell in read(*cells))


def test_a_source_is_a_list_of_lines():  # of a string, Quarto loses the ends of the lines
    cells = reading(notebook(FIGURE, CAPTION, ("markdown", "## Solutions\n\n### 1 A\n\n> **Note.** n")), BIB)["cells"]
    for cell in cells: assert isinstance(cell["source"], list) and all(re.fullmatch(r"[^\n]*\n|[^\n]+", line) for line in cell["source"]), cell["source"]


def test_a_caption_goes_into_the_cell_of_its_figure():
    _, figure, after = read(FIGURE, CAPTION, ("markdown", "After."))
    equal(figure["source"], '#| label: fig-lag\n#| fig-cap: "The line is \\"late\\"."\n#| fig-alt: "A line."\nplot()')
    equal(after["source"], "After.")


def test_a_caption_may_hold_code_formulas_bold_words_and_links():
    words = r"Bold **words**, `code`, $\alpha_1$, CIE L\* and [He et al. 2016](https://arxiv.org/abs/1512.03385)."
    figure = read(FIGURE, ("markdown", f'<a id="fig-lag"></a>*Figure: {words}*'))[1]
    made = json.loads(re.search(r"^#\| fig-cap: (.*)$", figure["source"], re.M)[1])
    equal(made.split(' "He et al.')[0] + ").", words)
    assert '"He et al. (2016). Deep Residual' in made


def test_text_beneath_a_caption_in_its_cell_stays():
    equal([c["source"] for c in read(FIGURE, ("markdown", CAPTION[1] + "\n\nIt *is* late."))][2:], ["It *is* late."])


def test_a_hidden_cell_may_stand_between_a_figure_and_its_caption_and_labels_keep_apart():
    other = ("code", "#| label: fig-lag-two\nplot()")
    second = ("markdown", '<a id="fig-lag-two"></a>*Figure: Two.*')
    cells = read(FIGURE, other, second, CAPTION)
    assert "late" in cells[1]["source"] and '"Two."' in cells[2]["source"] and len(cells) == 3


@pytest.mark.parametrize("cells, said", [
    ([FIGURE], "fig-lag has no caption"),
    ([CAPTION], "a caption for fig-lag, but no visible code cell"),
    ([FIGURE, ("markdown", '<a id="fig-lag"></a>Figure: plain')], "caption of fig-lag cannot be read"),
    ([FIGURE, ("markdown", CAPTION[1] + '\n\n<a id="fig-lap"></a>*Figure: More.*')], "caption of fig-lag cannot be read"),
    ([FIGURE, FIGURE, CAPTION], "two figures have the label fig-lag"),
    ([FIGURE, CAPTION, CAPTION], "fig-lag has two captions"),
    ([FIGURE, CAPTION, ("markdown", "See [this](#fig-lap).")], "a link leads to fig-lap"),
])
def test_a_figure_without_caption_and_a_caption_without_figure_are_refused(cells, said):
    with pytest.raises(Fault, match=said): read(*cells)


def test_the_filter_names_the_notebook(tmp_path):
    text = json.dumps(notebook(FIGURE))
    (tmp_path / "07_other.ipynb").write_text(json.dumps(notebook()))
    (tmp_path / "08_lines.ipynb").write_text(text)
    done = subprocess.run([sys.executable, HERE / "checks" / "reading.py"], input=text, text=True, capture_output=True, cwd=tmp_path)
    assert done.returncode
    equal(done.stderr.strip(), "08_lines.ipynb: fig-lag has no caption")


def test_the_filter_reads_stdin_and_writes_stdout():
    done = subprocess.run([sys.executable, HERE / "checks" / "reading.py"], input=json.dumps(notebook(FIGURE, CAPTION)),
                          text=True, capture_output=True, check=True)
    assert "#| fig-cap: " in "".join(json.loads(done.stdout)["cells"][1]["source"])


def test_a_link_to_a_figure_shows_it():
    assert "[The line](#fig-lag){.quarto-xref} is late." in text_of(FIGURE, CAPTION, ("markdown", "[The line](#fig-lag) is late."))


def test_a_link_to_a_paper_names_it_and_the_page_lists_it():
    front, text = read(("markdown", "See [He et al. (2016)](https://arxiv.org/abs/1512.03385), [Owen](https://doi.org/10.1214/07-AOAS122), "
                                    "[x](https://arxiv.org/abs/1512.03386)."))
    equal(front["source"], '---\ntitle: Lines\nnocite: "@he2015deep, @owen2007pigeonhole"\n---\n\n')
    equal(text["source"], 'See [He et al. (2016)](https://arxiv.org/abs/1512.03385 "He et al. (2016). Deep Residual Learning for Image '
                          'Recognition. CVPR."), [Owen](https://doi.org/10.1214/07-AOAS122 "Owen (2007). The \'Pigeonhole\' Bootstrap. '
                          'The Annals of Applied Statistics."), [x](https://arxiv.org/abs/1512.03386).')


def test_a_page_without_papers_has_no_list():
    assert "nocite" not in read(("markdown", "[x](https://example.org)"))[0]["source"]


def test_links_in_outputs_are_read_too():
    nb = notebook(FIGURE, CAPTION, ("code", "say()"))
    nb["cells"][-1]["outputs"] = [{"data": {"text/markdown": ["See [it](#fig-lag)\n", "\n", "> **Note.** Late."]}}]
    data = reading(nb, BIB)["cells"][-1]["outputs"][0]["data"]
    assert "[it](#fig-lag){.quarto-xref}" in data["text/markdown"] and "::: {.callout-note}\n## Note" in data["text/markdown"]


def test_a_colab_link_looks_like_a_button():
    assert text_of(("markdown", "[Open](https://colab.research.google.com/x)")).endswith("/x){.colab}")


def test_a_link_that_nbdev_made_inside_of_a_link_is_undone():
    made = text_of(FIGURE, CAPTION, ("markdown", "[the map of [`explain`](https://x.org/a.html#explain) here](#fig-lag), [`explain`](https://x.org/a)"))
    assert made.endswith("[the map of `explain` here](#fig-lag){.quarto-xref}, [`explain`](https://x.org/a)")


@pytest.mark.parametrize("name, kind", [("Remember", "tip"), ("Note", "note"), ("Warning", "warning")])
def test_a_quote_with_a_bold_name_becomes_a_callout(name, kind):
    equal(text_of(("markdown", f"Before.\n\n> **{name}.** One.\n>\n> - two\nlazy\n\nAfter.")).split("---\n\n")[1].strip(),
          f"Before.\n\n\n::: {{.callout-{kind}}}\n## {name}\n\nOne.\n\n- two\nlazy\n:::\n\n\nAfter.")


def test_other_quotes_and_code_stay():
    words = "> A sentence.\n\n> **Other.** Text.\n\n```md\n> **Note.** code\n## Solutions\n### 1\n[x](#fig-none)\n```"
    assert text_of(("markdown", words)).endswith(words)


def test_a_solution_is_one_folded_box_with_its_code():
    cells = [("markdown", "## Exercises\n\n### 1 Predict\n\nWhat?"), ("markdown", "## Solutions\n\n### 1 Predict\n\nThis:"),
             ("code", "#| code-fold: true\n#| code-summary: \"S\"\nrun()"), ("markdown", "> **Note.** So.\n\n### 2 Say\n\nWords."),
             ("code", "more()")]
    _, exercise, first, code, second, more, end = read(*cells)
    box = "::::: {.book-solution}"
    equal(exercise["source"], cells[0][1])
    equal(first["source"], f"## Solutions\n\n\n{box}\n[1 Predict]{{.summary}}\n\n\nThis:")
    equal(code["source"], "run()")
    assert ":::\n" in second["source"] and f"\n:::::\n\n\n{box}\n[2 Say]{{.summary}}\n\n\nWords." in second["source"]
    equal((more["source"], end["source"]), ("more()", ":::::"))


def test_a_heading_ends_the_solutions():
    made = text_of(("markdown", "## Solutions\n\n### 1 A\n\nx"), ("markdown", "## More\n\n### Plain"))
    assert made.endswith(":::::\n\n## More\n\n### Plain") and made.count(":::::") == 2


def test_read_twice_is_read_once():
    once = reading(notebook(FIGURE, CAPTION, ("markdown", "[a](#fig-lag) [b](https://colab.research.google.com/x)\n\n> **Note.** n")), BIB)
    equal(reading(copy.deepcopy(once), BIB), once)


def test_html_output_becomes_a_raw_block():
    nb = notebook(("code", "frame()"))
    nb["cells"][1]["outputs"] = [{"data": {"text/html": ["<ifr", "ame>"], "text/plain": "x"}}]
    equal(reading(nb, BIB)["cells"][1]["outputs"][0]["data"], {"text/plain": "x", "text/markdown": "```{=html}\n<iframe>\n```\n"})


def test_the_bibliography_is_read_whole():
    text = (HERE / "nbs" / "references.bib").read_text(encoding="utf-8")
    entries = read_bibliography(text)
    equal(len(entries), len(re.findall(r"^@", text, re.M)))
    for key, entry in entries.items():
        assert entry.get("url") or entry.get("doi"), f"{key} has no address"
        assert not re.search(r"[()\s]", entry.get("url", "")), key  # a link could not hold it
        assert re.fullmatch(r".+ \(\d{4}\)\. .+[.?!] .+\.", described(entry)), described(entry)
    equal(set(addresses(entries).values()), set(entries))


def test_two_entries_with_one_address_are_refused():
    with pytest.raises(Fault, match="the same address"):
        addresses({"a": {"url": "https://x.org/a"}, "b": {"url": "http://x.org/a/"}})


@pytest.mark.parametrize("names, said", [("He, K. and Sun, J.", "He and Sun"), ("A, a and B, b and C, c", "A, B and C"), ("Kalamkar, D and others", "Kalamkar et al."),
                                         ("NVIDIA", "NVIDIA"), ("A, a and B, b and C, c and D, d", "A et al.")])
def test_authors(names, said): equal(authors({"author": names}), said)


def test_a_percent_sign_in_a_title_is_no_comment():
    text = (HERE / "nbs" / "references.bib").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)%", text), "in BibTeX this begins a comment: write \\%"
    assert any(entry["title"].startswith("94% on") for entry in read_bibliography(text).values())


# --- Names of the package

def nbdev_link(name, page="gradcam.html"): return f"[`{name}`]({SITE}{page}#{name.strip('()').lower()})"


def shown(name, module, line):
    "A cell of nbdev's that shows a name."
    said = f"---\n\n[source](https://x.org/blob/main/cifar_gradcam/{module}.py#L{line}){{target=\"_blank\"}}\n\n### {name}\n"
    return {"cell_type": "code", "id": name, "metadata": {}, "source": f"#| echo: false\n#| output: asis\nshow_doc({name})",
            "outputs": [{"data": {"text/markdown": said}}]}


def place_of(module, name):
    lines, nodes = definitions(f"cifar_gradcam/{module}.py")
    return next((line, node, lines) for line, node in nodes.items() if getattr(node, "name", "") == name)


@pytest.mark.parametrize("words, wanted", [
    (f"See {nbdev_link('explain')}.", "See [`explain`](gradcam.html#explain)."),
    (f"See {nbdev_link('_judge')}.", "See `_judge`."),
    (f"The table {nbdev_link('scaled')}.", "The table `scaled`."),  # the cell below sets it
    (f"Call {nbdev_link('scaled()')}.", "Call [`scaled()`](gradcam.html#scaled)."),
    (f"{nbdev_link('History.load')}", "[`History.load`](gradcam.html#history)"),
    (f"Use `--normalise` with {nbdev_link('cifar10')}.", "Use `--normalise` with `cifar10`."),
    (f"The commands are `cifar_gradcam train` and {nbdev_link('explain')}. In Python, call {nbdev_link('explain')}.",
     "The commands are `cifar_gradcam train` and `explain`. In Python, call [`explain`](gradcam.html#explain)."),
    (f"| a | `cifar_gradcam train`, {nbdev_link('explain')} |\n| b | {nbdev_link('explain')} |",
     "| a | `cifar_gradcam train`, `explain` |\n| b | [`explain`](gradcam.html#explain) |"),
    (f"[here]({SITE}evaluation.html#part)", "[here](evaluation.html#part)"),
])
def test_a_link_of_nbdev_leads_to_the_function_that_is_meant(words, wanted):
    equal(read(("markdown", words), ("code", "record, scaled = 1, 2"))[1]["source"], wanted)


def test_in_the_chapter_of_the_commands_their_names_lead_to_them():
    nb = notebook(("markdown", nbdev_link("explain")))
    nb["cells"].append(shown("explain_command", "engine/cli", place_of("engine/cli", "explain_command")[0]))
    equal("".join(reading(nb, BIB)["cells"][1]["source"]), "[`explain`](#explain_command)")


def test_a_function_becomes_a_line_with_its_anchor_and_its_signature():
    line, node, lines = place_of("gradcam", "target_layers")
    nb = notebook(("markdown", "Before."))
    nb["cells"].append(shown("target_layers", "gradcam", line))
    made = "".join(reading(nb, BIB)["cells"][-1]["source"])
    assert "::::: {.book-api}\n[`target_layers`]{#target_layers} [Each as" in made and "###" not in made
    assert f"```python\n{signature(node, lines)}\n```" in made and f"gradcam.py#L{line}){{.book-source}}" in made


def test_folded_sources_in_a_row_share_a_box_and_short_ones_are_open():
    long = "def {}():\n" + "    pass\n" * 30
    nb = notebook(*(("code", FOLD + source) for source in (long.format("_a"), long.format("_b"), "def _c(): pass", long.format("_d"))))
    text = "\n".join("".join(cell["source"]) for cell in reading(nb, BIB)["cells"])
    equal(re.findall(r"^::::: (.*)\n(.*)", text, re.M), [("{.book-api}", "`_a`, `_b`"), ("{.book-api .open}", "`_c`"), ("{.book-api}", "`_d`")])
    equal(text.count("\n:::::\n"), 3)


@pytest.mark.parametrize("module, name, said", [
    ("gradcam", "target_layers", "def target_layers(\n    model: nn.Module,  #"),
    ("resnet", "ResNet", "class ResNet(nn.Module):\n    def __init__(\n        self,\n        block: type,"),
    ("data", "DatasetInfo", "class DatasetInfo(NamedTuple):\n    classes: tuple"),
    ("lr_finder", "NoPeak", "class NoPeak(ValueError):  # parameters as ValueError"),
])
def test_a_signature_shows_the_real_parameters(module, name, said):
    _, node, lines = place_of(module, name)
    assert signature(node, lines).startswith(said), signature(node, lines)


def test_no_signature_is_wider_than_the_column():
    for path in (HERE / "cifar_gradcam").rglob("[a-z]*.py"):
        lines, nodes = definitions(str(path.relative_to(HERE)))
        for node in nodes.values():
            if getattr(node, "name", "_")[0] == "_" or node.name == "Recipe": continue  # not shown; shown as a table
            assert max(map(len, signature(node, lines).split("\n"))) <= 88, signature(node, lines)


def test_the_table_of_a_recipe_is_its_fields():
    _, node, _ = place_of("engine/runs", "Recipe")
    rows = fields_of("cifar_gradcam/engine/runs.py", node).strip().split("\n")[2:]
    from dataclasses import fields

    from cifar_gradcam.engine.runs import Recipe
    equal([row.split("`")[1] for row in rows], [field.name for field in fields(Recipe)])
    assert '| `final_lr` | `float`, > 0, ≤ 1 | `0.0001` | final learning rate of OneCycle, as a fraction of the peak |' in rows


# --- The book

CHAPTERS = sorted((HERE / "nbs").glob("*.ipynb"))
RAW = re.compile(r"@fig-|\[@|^:::|\{\.colab\}|^#\| fig-cap|(?<![\w`/.])@[a-z]+(?:19|20)\d\d", re.M)


def texts(path):
    "What a reader of the notebook sees: (cell, text), Markdown in outputs included."
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        yield cell["id"], "".join(cell["source"])
        for output in cell.get("outputs", []): yield cell["id"], "".join(output.get("data", {}).get("text/markdown", ""))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.name)
def test_a_chapter_shows_no_markup_in_jupyter(path):
    left = [f"{cell}: {found[0]}" for cell, text in texts(path) for found in RAW.finditer(text)]
    assert not left, left


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.name)
def test_a_chapter_can_be_read_and_loses_no_text(path):
    nb = json.loads(path.read_text(encoding="utf-8"))
    reading(copy.deepcopy(nb))
    # nbdev makes the front matter of the first heading's cell, and drops what else is in it.
    title = next("".join(cell["source"]) for cell in nb["cells"] if cell["cell_type"] == "markdown" and "".join(cell["source"]).startswith("# "))
    dropped = [line for line in title.split("\n")[1:] if line.strip() and not line.startswith(">")]
    assert not dropped and title.count("\n>") <= 1, f"move this to a cell of its own: {dropped}"


def unsaid(cell):
    "Words that a cell would print or show as Markdown, whatever it computes, and that its stored outputs lack."
    data = [output.get("data", {}).get("text/markdown", output.get("text", "")) for output in cell.get("outputs", [])]
    seen, left = " ".join("".join("".join(text) for text in data).split()), []
    if not seen: return []
    for line in ast.parse(re.sub(r"^[%!].*", "", "".join(cell["source"]), flags=re.M)).body:
        if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Call) and getattr(line.value.func, "id", "") in ("print", "Markdown")): continue
        pieces = (piece for arg in line.value.args for piece in getattr(arg, "values", [arg]))
        words = (" ".join(piece.value.split()) for piece in pieces if isinstance(piece, ast.Constant) and isinstance(piece.value, str))
        left += [text for text in words if text not in seen]
    return left


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.name)
def test_stored_outputs_say_what_their_cells_say(path):
    left = [(cell["id"], text) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code" for text in unsaid(cell)]
    assert not left, f"run these cells again: {left}"


def test_an_output_that_its_cell_would_not_give_is_seen():
    source = ["%matplotlib inline\n", "Markdown(f\"\"\"Depth costs\n", "{x:.1f} points.\"\"\"); print('mean')"]
    cell = {"source": source, "outputs": [{"data": {"text/markdown": ["Depth costs 2.0\n", "points."]}}, {"text": ["mean 3"]}]}
    equal(unsaid(cell), [])
    equal(unsaid(cell | {"outputs": [{"data": {"text/markdown": ["Depth cost 2.0\n", "points."]}}]}), ["Depth costs", "mean"])


def test_a_cell_that_names_its_fold_stands_in_a_box_of_its_own():
    made = read(("markdown", "Guess."), ("code", "#| fold: The labels\n#| echo: true\nprint(1)"), ("markdown", "Seen?"), ("code", "fold = 1"))[1:]
    equal([cell["source"].strip() for cell in made],
          ["Guess.", "::::: {.book-solution}\n[The labels]{.summary}", "#| echo: true\nprint(1)", ":::::", "Seen?", "fold = 1"])
    equal(len({cell["id"] for cell in made}), 6)


def test_words_that_lead_to_a_figure_to_try_become_its_box():
    words = "On the site of this book you can [drag the *T* < 1](https://a.b/c.html#try-heat) and look."
    found = text_of(("markdown", f"Before.\n\n> **Try it.** {words}\n\nAfter."))
    equal(tries(notebook(("markdown", f"> **Try it.** {words}"))), {"heat": words})
    for part in ('id="try-heat"', "</b> Drag the *T* &lt; 1 and look.</p>", "site/book.js", "site/try_heat.js", "```{=html}", "Before.", "After."):
        assert part in found, part
    assert "https://a.b" not in found and "Try it.**" not in found
