"The checks of the built site that need neither a browser nor Quarto: each finds the fault that it is for, on a small page, and nothing on a good one."
import json
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from PIL import Image
from tools import equal

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE / "checks"))
import book_parts  # noqa: E402
import site_check  # noqa: E402
from inks import INK  # noqa: E402

CARD = "".join(f'<meta {kind}="{name}:image" content="https://a.b/site/card.png">' for kind, name in (("property", "og"), ("name", "twitter")))
PAGE = ('<html><head><link rel="canonical" href="{site}a.html">' + CARD + '</head><body class="x"><a class="book-skip" href="#text">Skip</a>'
        '<a href="./b.html">B</a><main id="text">{text}</main></body></html>')
EXPLORER = '<iframe srcdoc="&lt;script&gt;{&quot;index&quot;:[3,14],&quot;x&quot;:[5]}&lt;/script&gt;"></iframe>'
FORMULA = '<math><mi>x</mi><annotation encoding="application/x-tex">\\frac{1}{x}</annotation></math>'


def page(text): return PAGE.replace("{site}", book_parts.SITE).replace("{text}", text)


@pytest.fixture
def site(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "a_files").mkdir()
    Image.new("RGB", (1200, 630)).save(tmp_path / "site" / "card.png")
    for name, text in (("a", f'<p id="here">x</p>{FORMULA}'), ("b", '<a href="a.html#here">A</a><a href="explorer.html#mistake-14">M</a>'), ("explorer", EXPLORER)):
        (tmp_path / f"{name}.html").write_text(page(text), encoding="utf-8")
    (tmp_path / "search.json").write_text(json.dumps([{"href": "a.html#here", "text": "x 1/x"}]), encoding="utf-8")
    (tmp_path / "a_files" / "one.svg").write_text(f"<svg><style>@media (prefers-color-scheme: dark){{}}</style><path style='fill: {INK}'/></svg>", encoding="utf-8")
    return tmp_path


def of_site(site):
    return [*site_check.dead_links(site), *site_check.raw_links(site), *site_check.raw_markup(site), *site_check.without_card(site),
            *site_check.without_skip_link(site), *site_check.tex_in_search(site), *book_parts.inks(site)]


def test_a_good_site_has_no_faults(site): equal(of_site(site), [])


@pytest.mark.parametrize("file, old, new, said", [
    ("b.html", "a.html#here", "c.html", "b.html: c.html"),
    ("b.html", "a.html#here", "a.html#there", "b.html: a.html#there"),
    ("b.html", "#mistake-14", "#mistake-5", "b.html: explorer.html#mistake-5"),
    ("b.html", "#mistake-14", "#mistake-1", "b.html: explorer.html#mistake-1"),
    ("b.html", "a.html#here", book_parts.SITE + "a.html", "by the address of the site"),
    ("b.html", "./b.html", book_parts.SITE + "b.html", "by the address of the site"),
    ("a.html", ">x</p>", ">[x](https://a.b)</p>", "a.html shows 1 links as Markdown"),
    ("a.html", ">x</p>", ">::: @fig-lag</p>", "a.html shows :::, @fig-"),
    ("a.html", '<meta property="og:image"', '<meta property="og:other"', "a.html has as og:image nothing"),
    ("a.html", '<meta property="og:image" content="https://a.b/site/card.png"', '<meta property="og:image" content="https://a.b/fig.svg"', "a.html has as og:image ["),
    ("a.html", 'class="book-skip"', 'class="skip"', "a.html does not begin with the skip link"),
    ("search.json", "1/x", "1/x \\\\frac{1}{x}", "formulas of a.html as TeX"),
    ("a_files/one.svg", "prefers-color-scheme: dark", "print", "one.svg has one ink"),
])
def test_a_fault_of_the_site_is_found(site, file, old, new, said):
    text = (site / file).read_text(encoding="utf-8")
    assert old in text
    (site / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    found = of_site(site)
    assert len(found) == 1 and said in found[0], found


def test_a_card_of_another_size_is_found(site):
    Image.new("RGB", (600, 315)).save(site / "site" / "card.png")
    equal(of_site(site), ["the card is not there in 1200 × 630 pixels"])


def test_a_picture_of_one_ink_is_found(site):
    picture = Image.new("RGBA", (9, 9))
    picture.paste(INK, (2, 2, 7, 7))
    picture.save(site / "a_files" / "grey.png")
    equal(of_site(site), ["a_files/grey.png has one ink for both pages"])


API = '<details class="book-api"><summary><code>f</code></summary><pre>{}</pre></details>'
FOLD = '<details class="book-api"><summary><code>{}</code></summary><div class="cell"><pre>x</pre></div></details>'
PLOT = '<div class="cell"><pre class="sourceCode">{}</pre><div class="cell-output-display"><img src="a.svg"></div></div>'
TERM = '<a class="book-term" href="glossary.html#{}">{}</a>'
WORDS = {"epoch": (["epoch", "epochs"], [], "A pass."), "bin": (["bin"], ["06"], "A part.")}


def of_page(text):
    found, one = BeautifulSoup(f"<main>{text}</main>", "html.parser"), "runs"
    return [*book_parts.links(one, found, {"explain"}), *book_parts.solutions(one, found), *book_parts.signatures(one, found, {"Recipe"}),
            *book_parts.headings(one, found, {"explain", "Chart"}, {"Chart"}), *book_parts.plots(one, found),
            *book_parts.references(one, found, {"a": "On {Nets}"}), *book_parts.terms(one, "12_runs", found, WORDS)]


@pytest.mark.parametrize("text", [
    '<p>Call <a href="gradcam.html#explain"><code>explain</code></a>.</p>', API.format("def f(x)"), API.format("class Recipe"), PLOT.format("x\n" * 20),
    f"<details>{PLOT.format('x' + chr(10) * 40)}</details>", '<div class="csl-entry" id="ref-a">A (2017). On Nets.</div>', "<h3>Chart</h3>",
    f"<p>One {TERM.format('epoch', 'epoch')}, two epochs, one bin.</p>", FOLD.format("f") + "<p>x</p>" + FOLD.format("g"),
    '<section id="solutions"><details class="book-solution"><summary>1</summary><div class="cell"><pre>x</pre></div></details></section>'])
def test_a_good_page_has_no_faults(text): equal(of_page(text), [])


@pytest.mark.parametrize("text, said", [
    ('<p><a href="gradcam.html#_walk"><code>_walk</code></a></p>', "a private name"),
    ('<p>Type <code>cifar_gradcam explain</code> or <a href="gradcam.html#explain"><code>explain</code></a></p>', "links the command explain"),
    ('<p><a href="#losses"><code>losses</code></a></p><div class="cell"><pre>losses = 3</pre></div>', "sets losses"),
    ('<section id="solutions"><p>x</p></section>', "do not fold"),
    ('<section id="solutions"><details class="book-solution"></details><pre>17</pre></section>', "shows a part of a solution"),
    ('<section id="solutions"><details class="book-solution" open></details></section>', "a solution that is open"),
    (API.format("def f(*args, **kwargs)"), "no parameters"), (API.format("def Recipe(x)"), "the class Recipe as a function"),
    (API.format("def f(" + "x, " * 40 + ")"), "characters in the signature"), ("<details><summary>Exported source</summary></details>", "only called Exported source"),
    (FOLD.format("f").replace("<code>f</code>", "f"), "a fold without a name"), (FOLD.format("f") + FOLD.format("g"), "sources in a row"),
    ("<h3>explain</h3>", "explain among its headings"), (PLOT.format("x\n" * 40), "40 lines of code open"),
    ('<div class="csl-entry" id="ref-a">A (2017).</div>', "without its title"),
    ("<p>Two epochs.</p>", "does not define epoch"), (f"<p>Two epochs, one {TERM.format('epoch', 'epoch')}.</p>", "later than it uses it"),
    (f"<p>{TERM.format('epoch', 'epoch')} {TERM.format('epoch', 'epoch')}</p>", "defines epoch 2 times"),
    (f"<h2>{TERM.format('epoch', 'epoch')}</h2>", "where it should not"), (f"<p>{TERM.format('epoch', 'epoch')}-wise</p>", "a part of a word"),
    (f"<p>{TERM.format('bin', 'bin')}</p>", "for chapters ['06']"), (f"<p>{TERM.format('epoch', 'era')}</p>", "defines era as epoch")])
def test_a_fault_of_a_page_is_found(text, said):
    found = of_page(text)
    assert any(said in one for one in found), found


def test_a_name_without_its_place_is_found():
    public = {"explain": "runs.html#explain"}
    for text, faults in (('<details><summary><code id="explain">explain</code></summary></details>', 0), ("<p>x</p>", 1), ('<p id="explain">x</p>', 1)):
        equal(len([*book_parts.anchors("runs", BeautifulSoup(f"<main>{text}</main>", "html.parser"), public, set())]), faults)
