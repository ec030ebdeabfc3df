"""The explorer of mistakes in a real browser: `python checks/explorer.py [FOLDER]`; a folder gets screenshots.

Where no Chromium or Chrome is installed it says so and ends well.
"""
import base64
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from browser import Browser, find_browser
from reading import plain
from cifar_gradcam.data import CLASSES
from cifar_gradcam.engine.datasets import synthetic_images
from cifar_gradcam.mistakes.covering import cover, GAMES, in_words
from cifar_gradcam.mistakes.predictions import Predictions
from cifar_gradcam.mistakes.explorer import build_explorer
from cifar_gradcam.gradcam import overlay

READY = "document.documentElement.dataset.ready === ''"
TILES = "[...document.querySelectorAll('#tiles .tile')]"
COUNT = "document.querySelector('#count').textContent"
VIEW = "document.querySelector('#view')"
# What a canvas shows, read from a copy made for that: reading the canvas itself logs a warning.
PIXELS = ("(c => {{ const o = document.createElement('canvas').getContext('2d', {{willReadFrequently: true}}); "
          "o.drawImage(c, 0, 0); return [...o.getImageData(0, 0, c.width, c.height).data]; }})({})")
# Of each kind of fact one that has it in a grid of 4 × 4, and what the larger view frames.
FOUND = {
    "one cell turns the answer": (dict(turns=[6, 9], halves=[6, 9, 10], holds=[1], cover=[6]), [6],
                                  "a cell that turns the answer if it alone is covered"),
    "a few cells together turn the answer": (dict(halves=[3], cover=[3, 7]), [3, 7],
                                             "the cells that turn the answer if covered together"),
    "one cell costs half of the lead": (dict(halves=[3, 12]), [3, 12],
                                        "each cell that costs half of the lead if it alone is covered"),
    "cells carry evidence for the answer": (dict(holds=[0]), [0],
                                           "each cell with evidence for the answer (an estimate)"),
    "one cell costs most": (dict(costliest=9), [9], "the cell that costs most if it alone is covered"),
    "no place can be named": ({}, [], "")}
# What `whose_names` may say, and what the larger view makes of it.
WHOSE = [("picture: people say so too, 8 of 8 other runs err", "Picture: some people give this answer, and all 8 other training runs get this image wrong too."),
         ("recipe: 7 of 8 other runs err", "Recipe: 7 of 8 other training runs get this image wrong too."),
         ("luck: 1 of 8 other runs err", "Luck: 1 of 8 other training runs gets this image wrong too."),
         ("luck: this run alone", "Luck: only this run errs.")]


def mistakes(n=41, classes=CLASSES):
    "Generated images, smooth maps, and answers of which every one is wrong."
    rng = np.random.default_rng(0)
    pictures, labels = synthetic_images(n, rng)
    logits = rng.normal(size=(n, 10)).astype(np.float32)
    answers = (labels + rng.choice([1, 2, 9], n)) % 10
    answers[:5], labels[:5] = 5, 3  # five cats taken for dogs
    logits[np.arange(n), answers] = logits.max(1) + rng.uniform(0.1, 6, n)
    y, x = np.mgrid[:32, :32] / 31
    heats = [np.clip(abs(np.sin(3 * x + k) * np.cos(2 * y)) * rng.uniform(0.6, 1, (n, 1, 1)), 0, 1) for k in (0, 2, 4)]
    record = Predictions(np.arange(n) * 7 + 2, labels, logits, tuple(classes), "generated")
    return pictures, heats, record


def found(record, k, kind, grid=4):
    "Facts about the answer to image k, made up; see `cifar_gradcam.mistakes.covering.facts`."
    pair = dict(predicted=int(record.predicted[k]), true=int(record.labels[k]), other=int(record.labels[k]))
    cells = dict.fromkeys(("turns", "halves", "holds", "opposes", "cover", "keeps"), [])
    games = {game: dict(blank=pair["true"], holds=[0]) for game in GAMES}
    return pair | cells | dict(costliest=None, grid=grid, games=games) | FOUND[kind][0]


def kind_of(k): return [*FOUND][max(0, k % 7 - 1)]


def facts_of(record):
    "For each image but the last."
    return {int(i): found(record, k, kind_of(k)) for k, i in enumerate(record.indices[:-1])}


def page_of(folder, name, explorer): return explorer.save(Path(folder) / f"{name}.html")


def same(found, wanted, what):
    if found != wanted: raise AssertionError(f"{what}: {found!r}, wanted {wanted!r}")


def shown(browser):
    "The places, in the data set, of the images on show."
    return browser.run(TILES + ".map(t => +t.getAttribute('aria-label').match(/^Image (\\d+)/)[1])")


def choose(browser, select, value):
    browser.run(f"(s => {{ s.value = {value!r}; s.dispatchEvent(new Event('change')); }})(document.querySelector('#{select}'))")


def check_start(browser, pictures, record):
    "At first one sees the pictures, and what the marks and the fields mean; with maps, what their colours mean."
    told = "['kind-told', 'note-told', 'map-told'].map(id => (e => e.checkVisibility() && e.innerText.trim())(document.getElementById(id)))"
    scale = "document.querySelector('.bar .scale').checkVisibility()"
    first = np.argsort(-record.confidence, kind="stable")[0]
    same(abs(pixels(browser, TILES + "[0].querySelector('canvas')")[..., :3] - pictures[first]).max(), 0, "a picture without its map")
    wanted = ["Covering: parts of a picture were hidden, in three ways. Shown: the strongest finding that holds in all three.", "! a note", "Choose a picture to see its maps."]
    same(browser.run(told), wanted, "what is explained")
    same(browser.run("document.querySelector('#map-told').getBoundingClientRect().bottom < document.querySelector('#matrix-box').getBoundingClientRect().top"), True, "what to do stands at the top")
    same(browser.run("document.getElementById(document.querySelector('#kind').getAttribute('aria-describedby'))?.id"), "kind-told", "a screen reader has it with the field")
    same(browser.run(f"[{scale}, document.querySelector('#opacity').disabled]"), [False, True], "no map, no scale")
    browser.run("document.querySelector('#heat input').focus()")
    browser.press("ArrowRight")
    same(browser.run(f"[document.activeElement.value, {told}[2], {scale}, document.querySelector('#opacity').disabled]"), ["predicted", False, True, False], "the maps by keyboard")


def check_filters(browser, record):
    n, surest = len(record), record.indices[np.argsort(-record.confidence, kind="stable")].tolist()
    same(shown(browser), surest, "the most confident come first")
    same(browser.run(COUNT), f"All {n} mistakes", "count")
    choose(browser, "predicted", 5)
    wanted = [i for i in surest if record.predicted[record.indices == i] == 5]
    same(shown(browser), wanted, "filter of the predicted class")
    same(browser.run(COUNT), f"{len(wanted)} of {n} mistakes: taken for dog", "count")
    choose(browser, "true", 3)
    both = [i for i in wanted if record.labels[record.indices == i] == 3]
    same((shown(browser), len(both) >= 5), (both, True), "filters of both classes")
    same(browser.run(COUNT), f"{len(both)} of {n} mistakes: cat taken for dog", "count")
    choose(browser, "true", 5)
    same((shown(browser), browser.run("document.querySelector('#none').checkVisibility()")), ([], True), "no such mistake")
    browser.click("document.querySelector('#all')")
    same(shown(browser), surest, "all again")
    for order, key in (("worst", -record.loss), ("mildest", record.loss), ("unsure", record.confidence),
                       ("index", record.indices)):
        choose(browser, "order", order)
        same(shown(browser), record.indices[np.argsort(key, kind="stable")].tolist(), order)
    choose(browser, "order", "surest")


def check_facts(browser, record):
    "One can filter by what covering shows, alone and with a class; the larger view says it and frames the cells."
    n, facts = len(record), facts_of(record)
    surest = np.argsort(-record.confidence, kind="stable")
    kinds = {int(record.indices[k]): kind_of(k) for k in range(n - 1)}
    counts = [f"{kind} ({list(kinds.values()).count(kind)})" for kind in FOUND]
    same(browser.run("[...document.querySelector('#kind').options].map(o => o.text)"), ["All", *counts], "the kinds, counted")
    for c, kind in enumerate(FOUND):
        choose(browser, "kind", c)
        wanted = [i for i in record.indices[surest].tolist() if kinds.get(i) == kind]
        same((shown(browser), browser.run(COUNT)), (wanted, f"{len(wanted)} of {n} mistakes: {kind}"), f"filter: {kind}")
        same(browser.run(f"{TILES}[0].getAttribute('aria-label').includes('. Covering: {kind}')"), True, "named for a screen reader")
        browser.click(TILES + "[0]")
        check_frames(browser, FOUND[kind][1], in_words(facts[wanted[0]], CLASSES), FOUND[kind][2])
        styles = f"new Set([...{VIEW}.querySelectorAll('.frame')].map(f => getComputedStyle(f, '::before').borderTopStyle))"
        same(browser.run(f"[...{styles}]"), ["dashed" if "estimate" in FOUND[kind][2] else "solid"][:len(FOUND[kind][1])], "an estimate is dashed")
        browser.press("Escape")
    choose(browser, "kind", 0)
    choose(browser, "predicted", 5)
    both = [i for i in record.indices[surest].tolist() if kinds.get(i) == kind_of(0) and record.predicted[record.indices == i] == 5]
    same((shown(browser), browser.run(COUNT), len(both) > 0),
         (both, f"{len(both)} of {n} mistakes: taken for dog; {kind_of(0)}", True), "both filters")
    check_frames_hidden(browser)
    choose(browser, "true", 5)
    same(browser.run("document.querySelector('#none').innerText"), "No mistake fits all filters.", "nothing fits")
    browser.click("document.querySelector('#all')")
    same((shown(browser), browser.run("document.querySelector('#kind').value")), (record.indices[surest].tolist(), "-1"), "all again")
    last = f"{TILES}[{surest.tolist().index(n - 1)}]"
    same(browser.run(f"{last}.getAttribute('aria-label').includes('Covering')"), False, "an image without facts")
    browser.click(last)
    check_frames(browser, [], "", "")
    browser.press("Escape")


def frames(browser):
    "The frames on show: left, top, right, bottom as shares of the picture below them."
    return browser.run(f"(p => [...{VIEW}.querySelectorAll('.frame')].filter(f => f.checkVisibility()).map(f => f.getBoundingClientRect())"
                       ".map(r => [(r.left - p.left) / p.width, (r.top - p.top) / p.height, (r.right - p.left) / p.width, "
                       f"(r.bottom - p.top) / p.height]))({VIEW}.querySelector('canvas, .picture').getBoundingClientRect())")


def numbers(browser):
    "The numbers of columns, then of rows, on show; and whether each is beside its cells and not on the picture."
    found = browser.run(f"(p => [...{VIEW}.querySelectorAll('.number')].filter(f => f.checkVisibility()).map(f => [f, f.getBoundingClientRect()])"
                        ".map(([f, r]) => [f.textContent, f.classList.contains('row'), ((r.left + r.right) / 2 - p.left) / p.width, "
                        f"((r.top + r.bottom) / 2 - p.top) / p.height, r.right <= p.left, r.bottom <= p.top]))"
                        f"({VIEW}.querySelector('canvas, .picture').getBoundingClientRect())")
    columns, rows = ([one for one in found if one[1] == row] for row in (False, True))
    def beside(k, n, along, outside): return bool(k / n < along < (k + 1) / n and outside)
    return [(one[0], beside(k, len(columns), one[2], one[5])) for k, one in enumerate(columns)] + \
           [(one[0], beside(k, len(rows), one[3], one[4])) for k, one in enumerate(rows)]


def box_of(cell, grid, size):
    "Left, top, right, bottom of the pixels that `cover` hides, as shares of the picture."
    gone = cover(torch.ones(1, 3, *size), torch.arange(grid**2).reshape(1, grid, grid) == cell)[0, 0] == 0
    rows, columns = gone.any(1).nonzero(), gone.any(0).nonzero()
    return [(place / side).item() for place, side in ((columns.min(), size[1]), (rows.min(), size[0]),
                                                     (columns.max() + 1, size[1]), (rows.max() + 1, size[0]))]


def check_frames(browser, cells, sentence, framed, grid=4, size=(32, 32)):
    "Cells are framed where `cover` hides them, and a sentence says what is framed."
    got, wanted = frames(browser), [box_of(cell, grid, size) for cell in cells]
    same((len(got), np.allclose(np.ravel(got), np.ravel(wanted), atol=0.005) if got else True), (len(cells), True),
         f"frames {got}, wanted {wanted}")
    texts = [browser.run(f"document.querySelector('#view-{name}').textContent") for name in ("covering", "legend")]
    same(texts, [sentence, framed and f"Framed: {framed}."], "what the larger view says")
    same([browser.run(f"document.querySelector('#{name}').checkVisibility()") for name in ("covering", "view-legend", "view-frames", "view-differ")],
         [bool(sentence), *[bool(cells)] * 3], "sentence, legend and switch of the frames, and why maps differ from them")
    same(numbers(browser), [(str(k + 1), True) for k in range(grid)] * 2 if cells else [], "rows and columns are numbered")


def check_frames_hidden(browser):
    "The frames go and come by pointer and by keyboard, and stay so in the next picture."
    switch = "document.querySelector('#view-frames input')"
    browser.run(TILES + "[0].focus()")
    browser.press("Enter")
    same(len(frames(browser)), 1, "opened by keyboard")
    browser.click("document.querySelector('#view-frames')")
    same((browser.run(switch + ".checked"), len(frames(browser)), numbers(browser)), (False, 0, []), "hidden by pointer")
    browser.press("ArrowRight")
    same((browser.run(switch + ".checked"), len(frames(browser))), (False, 0), "and in the next picture")
    browser.run(switch + ".focus()")
    browser.press(" ")
    same((browser.run(switch + ".checked"), len(frames(browser))), (True, 1), "shown by keyboard")
    browser.press("Escape")


def check_sizes(browser, folder):
    "Images of another size, not square, with three classes of their own, and no contrast."
    rng, names = np.random.default_rng(1), ("owl", "fox", "elk")
    pictures = rng.integers(0, 256, (30, 48, 64, 3), dtype=np.uint8)
    heats = [rng.uniform(0, 1, (30, 48, 64)) for _ in range(2)]
    labels, logits = rng.integers(0, 3, 30), rng.normal(size=(30, 3)).astype(np.float32)
    logits[np.arange(30), labels] = -5
    record = Predictions(np.arange(30), labels, logits, names, "generated")
    browser.size(1280, 800)
    browser.open(page_of(folder, "sizes", build_explorer(pictures, heats, record)), READY)
    same(browser.run("document.querySelector('#kind-field').checkVisibility()"), False, "no facts, no filter")
    same(browser.run("document.querySelector('#kind-told').checkVisibility()"), False, "no facts, no word of them")
    place, canvas = np.argsort(-record.confidence, kind="stable"), f"{TILES}[{{}}].querySelector('canvas')"
    facts = found(record, place[0], "one cell costs half of the lead", grid=3) | dict(halves=[1, 8])
    browser.open(page_of(folder, "thirds", build_explorer(pictures, heats, record, facts={int(place[0]): facts})), READY)
    same(browser.run("document.querySelector('#note-told').checkVisibility()"), False, "no notes, no word of them")
    browser.click("document.querySelector('#heat input[value=predicted]')")
    for t in (0, 29):
        i = place[t]
        close(pixels(browser, canvas.format(t)), overlay(pictures[i] / 255, heats[0][i], 0.5), "a map of 48 × 64")
    box = browser.run(f"(r => r.width / r.height)({canvas.format(0)}.getBoundingClientRect())")
    same(abs(box - 64 / 48) < 0.02, True, f"its proportions are kept: {box}")
    same(browser.run("[...document.querySelector('#true').options].map(o => o.text)"), ["All", *names], "its classes")
    browser.click(TILES + "[0]")
    check_frames(browser, [1, 8], in_words(facts, names), FOUND["one cell costs half of the lead"][2], 3, (48, 64))
    same(browser.run(VIEW + ".querySelectorAll('canvas').length"), 3, "image and two maps, as there is no contrast")
    browser.press("Escape")


def check_matrix(browser, record):
    times = np.zeros((10, 10), int)
    np.add.at(times, (record.labels, record.predicted), 1)
    found = browser.run("[...document.querySelectorAll('#matrix tbody tr')].map(r => [...r.querySelectorAll('td')]"
                        ".map(c => +(c.querySelector('button')?.textContent || 0)))")
    same(found, times.tolist(), "the numbers of the matrix")
    cell = "document.querySelector('#matrix button[data-true=\"3\"][data-predicted=\"5\"]')"
    browser.click(cell)
    same((len(shown(browser)), browser.run(COUNT)), (times[3, 5], f"{times[3, 5]} of {len(record)} mistakes: cat taken for dog"),
         "a click on a cell")
    same(browser.run("['predicted', 'true'].map(id => document.getElementById(id).value)"), ["5", "3"], "the selects follow")
    same(browser.run(cell + ".getAttribute('aria-pressed')"), "true", "the cell is pressed")
    browser.click(cell)
    same(len(shown(browser)), len(record), "the same click again")
    browser.click("document.querySelector('#matrix thead button[data-predicted=\"5\"]')")
    same(len(shown(browser)), times[:, 5].sum(), "a click on a class")
    browser.run("document.querySelector('#matrix thead button[data-predicted=\"5\"]').focus()")
    browser.press("ArrowRight")
    browser.press("Enter")
    same(len(shown(browser)), times[:, 6].sum(), "the next class, by keyboard")
    browser.press("Enter")


def pixels(browser, canvas):
    height = browser.run(f"({canvas}).height")
    return np.array(browser.run(PIXELS.format(canvas))).reshape(height, -1, 4)


def close(found, wanted, what):
    off = abs(found[..., :3] - 255 * wanted).max()
    if off > 1: raise AssertionError(f"{what}: pixels differ by {off}")


def check_pixels(browser, pictures, heats, record):
    def tile(t): return pixels(browser, f"{TILES}[{t}].querySelector('canvas')")
    places = np.argsort(-record.confidence, kind="stable")
    for t in (0, 1, len(record) - 1):
        i = places[t]
        for name, heat in zip(("predicted", "true"), heats):
            browser.click(f"document.querySelector('#heat input[value={name}]')")
            slide(browser, "#opacity", 50)
            close(tile(t), overlay(pictures[i] / 255, heat[i], 0.5), f"map of the {name} class")
            slide(browser, "#opacity", 80)
            close(tile(t), overlay(pictures[i] / 255, heat[i], 0.8), "after the slider moved")
        browser.click("document.querySelector('#heat input[value=none]')")
        same(abs(tile(t)[..., :3] - pictures[i]).max(), 0, "the image itself")
    browser.click("document.querySelector('#heat input[value=predicted]')")
    before = tile(0)
    browser.run("document.querySelector('#opacity').focus()")
    browser.press("ArrowLeft")
    same((browser.run("document.querySelector('#opacity').value"), (tile(0) != before).any()), ("79", True),
         "the slider by keyboard")


def check_bare_picture(browser, pictures, heats, record):
    "The mouse over a tile takes the map away, or shows it where there is none, and leaving it undoes that."
    k = int(np.flatnonzero(record.indices == shown(browser)[0])[0])
    canvas, place = TILES + "[0].querySelector('canvas')", browser.run(f"(t => {{ t.scrollIntoView({{block: 'center', behavior: 'instant'}}); const r = t.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 3]; }})({TILES}[0])")
    slide(browser, "#opacity", 50)
    picture, map_over = pictures[k] / 255, overlay(pictures[k] / 255, heats[0][k], 0.5)
    if abs(map_over - picture).max() < 0.05: raise AssertionError("the map of this tile cannot be told from its picture")
    for which, usual, beneath in (("predicted", map_over, picture), ("none", picture, map_over)):
        browser.click(f"document.querySelector('#heat input[value={which}]')")
        for what, x, y, wanted in (("before", 1, 1, usual), ("beneath the mouse", *place, beneath), ("when the mouse has gone", 1, 1, usual)):
            browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
            browser.until(f"{TILES}[0].matches(':hover') === {'false' if x == 1 else 'true'}")
            close(pixels(browser, canvas), wanted, f"heat map {which}, {what}")


def slide(browser, slider, value):
    browser.run(f"(s => {{ s.value = {value}; s.dispatchEvent(new Event('input')); }})(document.querySelector('{slider}'))")


def percent(p):
    if 0 < p < 0.0005: return "< 0.1 %"
    if 0.9995 <= p < 1: return "> 99.9 %"
    return f"{100 * p:.1f} %"


def check_view(browser, pictures, heats, record):
    place = np.argsort(-record.confidence, kind="stable")
    browser.click(TILES + "[2]")
    same(browser.run(VIEW + ".open"), True, "a click opens the larger view")
    for i in (place[2], place[3]):
        rows = browser.run("[...document.querySelectorAll('#bars tr')].map(r => [r.className, r.cells[0].textContent, "
                           "parseFloat(r.querySelector('i').style.width), r.cells[2].textContent])")
        for c, (which, name, share, text) in enumerate(rows):
            mark = {record.predicted[i]: "✗ ", record.labels[i]: "✓ "}.get(c, "")
            same((which, name), ({"✗ ": "predicted", "✓ ": "true", "": ""}[mark], mark + CLASSES[c]), "a class of the larger view")
            p = float(record.probabilities[i, c])
            if abs(share / 100 - p) > 1e-4: raise AssertionError(f"bar of {share} % for a probability of {p}")
            if text != percent(p) and abs(float(text[:-2]) - 100 * p) > 0.0501: raise AssertionError(f"{text} for {p}")
        check_view_pictures(browser, pictures[i], [heat[i] for heat in heats])
        same(browser.run("(e => e.checkVisibility() && e.textContent)(document.querySelector('#scale-told'))"),
             "Each map is stretched to its own maximum: compare places, not brightness. least  most", "how the maps are drawn")
        browser.press("ArrowRight")
    same(browser.run("document.querySelector('#view-facts').textContent.includes('5 of 41')"), True, "the arrow key turns over")
    browser.press("Escape")
    same(browser.run(VIEW + ".open"), False, "Esc closes")
    browser.until(f"document.activeElement === {TILES}[4]")  # the focus is on the tile that was shown last
    browser.press("ArrowLeft")
    browser.press("Enter")
    same(browser.run(f"[{VIEW}.open, document.activeElement.id]"), [True, "close"], "Enter opens")
    browser.press("Enter")
    browser.until(f"!{VIEW}.open && document.activeElement === {TILES}[3]")
    columns = browser.run(f"{TILES}.filter(t => t.offsetTop === {TILES}[0].offsetTop).length")
    browser.press("ArrowDown")
    same(browser.run(f"{TILES}.indexOf(document.activeElement)"), 3 + columns, "down by a row")
    browser.run(f"[0, 1].forEach(t => {{ {TILES}[t].click(); {VIEW}.close(); }})")  # before the page is told of the first


def check_view_pictures(browser, picture, maps):
    for opacity in (50, 80):
        slide(browser, "#view-opacity input", opacity)
        wanted = [picture / 255, *(overlay(picture / 255, heat, opacity / 100) for heat in maps)]
        same(browser.run(VIEW + ".querySelectorAll('canvas').length"), 4, "image and three maps")
        for k, (what, colours) in enumerate(zip(("the image", "the predicted map", "the true map", "the contrast"), wanted)):
            close(pixels(browser, f"{VIEW}.querySelectorAll('canvas')[{k}]"), colours, f"{what} in the larger view")


def check_whose(browser, record):
    "Whose mistake it is, in the words of the larger view."
    for i, (_, words) in zip(record.indices, WHOSE):
        browser.click(f"{TILES}.find(t => t.getAttribute('aria-label').startsWith('Image {i}:'))")
        same(browser.run("document.querySelector('#view-whose').textContent"), f"Whose mistake? {words}", "whose mistake")
        browser.press("Escape")


def check_names(browser, document="document"):
    "A screen reader has a name for each control."
    nameless = (f"[...{document}.querySelectorAll('button, select, input')].filter(e => !e.getAttribute('aria-label') && !e.labels?.length && "
                "(e.matches('select, input') || !(e.textContent.trim() || e.querySelector('img')?.alt))).map(e => e.outerHTML)")
    same(browser.run(nameless), [], "controls without a name")


def check_labels(browser):
    "What a screen reader is told."
    check_names(browser)
    same(browser.run("document.querySelectorAll('#matrix th[scope]').length"), 20, "heads of rows and columns")
    same(browser.run("document.querySelector('#count').getAttribute('aria-live')"), "polite", "the count is announced")
    stops = browser.run("[...document.querySelectorAll('#matrix button, #tiles button')].filter(b => b.tabIndex === 0).length")
    same(stops, 2, "stops of the Tab key in matrix and tiles")


def check_units(browser, box):
    "A number and its unit stay on one line."
    same(browser.run(f"[...{box}.querySelectorAll('p, li, button')].flatMap(one => one.textContent.match(/\\d (%|points?|MB|ms)(?!\\w)/g) || [])"), [], "numbers that may part from their units")


def check_targets(browser, what, document="document"):
    "What one presses measures 24 pixels or more each way."
    browser.run(f"{document}.querySelectorAll('details').forEach(d => {{ d.open = true; }})")
    small = (f"[...{document}.querySelectorAll('button, select, summary, label:has(input), input[type=range]')]"
             ".filter(e => e.checkVisibility()).map(e => [e.getBoundingClientRect(), e])"
             ".filter(([r]) => r.width < 23.99 || r.height < 23.99).map(([r, e]) => [r.width, r.height, e.outerHTML.slice(0, 80)])")
    same(browser.run(small), [], f"targets below 24 pixels {what}")


def check_more(browser, folder):
    "Many mistakes are shown in parts; the focus goes on where they go on."
    pictures, heats, record = mistakes(300)
    browser.size(1280, 800)
    browser.open(page_of(folder, "many", build_explorer(pictures, heats, record)), READY)
    surest, more = record.indices[np.argsort(-record.confidence, kind="stable")].tolist(), "document.querySelector('#more')"
    same((shown(browser), browser.run(COUNT)), (surest[:120], "All 300 mistakes"), "the first part")
    same(browser.run(more + ".textContent"), "Show 120 more of 180", "what is left")
    browser.click(more)
    same((shown(browser), browser.run(more + ".textContent")), (surest[:240], "Show the other 60"), "the second part")
    same(browser.run(f"{TILES}.indexOf(document.activeElement)"), 120, "the focus is on the first of them")
    browser.click(TILES + "[239]")
    browser.press("ArrowRight")
    browser.press("Escape")
    browser.until(f"document.activeElement === {TILES}[240]")
    same((shown(browser), browser.run(more + ".checkVisibility()")), (surest, False), "what the larger view turned to")
    choose(browser, "order", "index")
    same(shown(browser), record.indices.tolist()[:120], "another order begins anew")


def check_phone(browser, page):
    for width in (375, 360):
        browser.size(width, 667)
        browser.open(page, READY)
        same(browser.run(f"[document.querySelector('#filters').open, document.querySelector('#heat').checkVisibility(), {TILES}[0].getBoundingClientRect().top < 330]"),
             [False, True, True], "filters are folded, and the first pictures stand high")
        check_targets(browser, f"on a phone {width} wide")
        same(browser.run("document.documentElement.scrollWidth"), width, "nothing sticks out on a phone")
        check_tiles_of_phone(browser, f"on a phone {width} wide")
        browser.click(TILES + "[0]")
        same(browser.run(f"{VIEW}.scrollWidth <= {VIEW}.clientWidth && {VIEW}.getBoundingClientRect().right <= {width}"), True,
             "the larger view fits a phone")
        check_targets(browser, f"in the larger view on a phone {width} wide")
        same(browser.run(f"{VIEW}.querySelector('canvas').getBoundingClientRect().bottom < 300"), True, "the picture stands before the sentence")


def check_tiles_of_phone(browser, what, document="document"):
    "At least three pictures beside each other, and no name of a class is cut."
    columns, cut = browser.run(f"(all => [all.filter(t => t.offsetTop === all[0].offsetTop).length, all.flatMap(t => [...t.querySelectorAll('b')]).filter(b => b.scrollWidth > b.clientWidth).map(b => b.textContent)])([...{document}.querySelectorAll('#tiles .tile')])")
    same([columns >= 3, cut], [True, []], f"the pictures and their names {what}")


def check_phone_frame(browser, folder, explorer):
    "On a page on a phone the frame does not scroll inside, and the larger view opens where one looks."
    host = Path(folder) / "phone.html"
    host.write_text("<!DOCTYPE html><meta charset=utf-8><meta name=viewport content='width=device-width'>"
                    "<style>* { box-sizing: border-box } body { margin: 0; padding: 0 24px } html { scroll-padding-top: 80px }"
                    "#bar { position: fixed; z-index: 9; top: 0; left: 0; right: 0; height: 60px; background: navy }</style><div id=bar></div>"
                    f"<p style='height: 900px'>before</p>{explorer._repr_html_()}<p style='height: 900px'>after</p>", encoding="utf-8")
    inside = "document.querySelector('iframe').contentDocument"
    tiles = f"[...{inside}.querySelectorAll('#tiles .tile')]"
    fits = (f"(d => d.documentElement.scrollHeight <= d.documentElement.clientHeight && "
            f"d.querySelector('#app').offsetHeight > d.documentElement.clientHeight - 60)({inside})")
    browser.size(390, 844)
    browser.open(host, f"{inside}.documentElement.dataset.ready === ''")
    browser.until(fits)
    same(browser.run(tiles + ".length"), 30, "a part of the mistakes")
    check_targets(browser, "in a frame on a phone", inside)
    check_tiles_of_phone(browser, "in a frame on a phone", inside)
    browser.until(fits)
    browser.run(f"{inside}.querySelector('#more').click()")
    same(browser.run(tiles + ".length"), len(explorer), "the rest")
    browser.until(fits)
    same(browser.run("document.documentElement.scrollWidth"), 390, "nothing sticks out")
    short = browser.run(f"{tiles}.findIndex(t => !t.getAttribute('aria-label').includes('Covering'))")  # its view is lower
    for t in (0, 20, short, len(explorer) - 1):
        browser.run(f"{tiles}[{t}].scrollIntoView({{block: 'center'}})")
        browser.run(f"{tiles}[{t}].click()")
        for what in ("opened", "turned over"):
            place = browser.run(f"(r => [r.top, r.bottom].map(y => y + document.querySelector('iframe').getBoundingClientRect().top))"
                                f"({inside}.querySelector('#view').getBoundingClientRect())")
            same(60 <= place[0] < place[1] <= 844, True, f"the larger view of image {t}, {what}, is on the screen and clear of the bar, {place}")
            browser.run(f"{inside}.querySelector('#{'next' if t == 0 else 'previous'}').click()")
        browser.run(f"{inside}.querySelector('#close').click()")
    browser.size(1000, 844)  # turned or enlarged: as high as before
    browser.until("document.querySelector('iframe').offsetHeight <= 802")


def check_theme(browser, page):
    dark = "document.documentElement.dataset.theme"
    for theme in (True, False):
        browser.size(1280, 800, dark=theme)
        browser.open(page, READY)
        same(browser.run(dark), "dark" if theme else "light", "the theme of the system")


def check_host(browser, folder, explorer):
    "Two explorers in a page with rude styles; the page goes dark and they follow; one does not disturb the other."
    rude = "<style>button { display: none !important } canvas { width: 3px !important } table { color: red }</style>"
    host = Path(folder) / "host.html"
    host.write_text(f"<!DOCTYPE html><meta charset=utf-8>{rude}<body style='background: white'>"
                    f"{explorer._repr_html_()}<p>between</p>{explorer._repr_html_()}", encoding="utf-8")
    browser.size(900, 1300)
    inside = "document.querySelectorAll('iframe')[{}].contentDocument"
    browser.open(host, " && ".join(f"{inside.format(k)}.documentElement.dataset.ready === ''" for k in (0, 1)))
    width = browser.run(inside.format(0) + ".querySelector('.tile canvas').getBoundingClientRect().width")
    same(width > 90, True, "the page's styles stay outside")
    browser.run(f"{inside.format(0)}.querySelector('#matrix tbody td button').click()")
    counts = [browser.run(f"{inside.format(k)}.querySelector('#count').textContent") for k in (0, 1)]
    same((counts[0] != counts[1], counts[1]), (True, f"All {len(explorer)} mistakes"), "one does not disturb the other")
    for name, theme in (("quarto-dark", "dark"), ("quarto-light", "light")):
        browser.run(f"document.body.className = '{name}'")
        browser.until(f"{inside.format(1)}.documentElement.dataset.theme === '{theme}'")
    browser.run("document.body.className = ''; document.body.style.background = '#222'")
    browser.until(f"{inside.format(0)}.documentElement.dataset.theme === 'dark'")


def check_odd_pages(browser, folder, pictures, heats, record):
    "No mistakes; names that look like markup; no canvas; no script."
    none = build_explorer(pictures[:0], [h[:0] for h in heats], record[:0], "The model is right on all 50 images.")
    browser.open(page_of(folder, "none", none))
    browser.until("document.querySelector('#nothing').checkVisibility()")
    same(browser.run("document.querySelector('#nothing').innerText"), "No mistakes\n\nThe model is right on all 50 images.", "none")
    names = ("</script><script>window.bad = 1</script>", "<img src=x onerror='window.bad = 1'>", "{{plain}}", '"&quot;', *CLASSES[4:])
    odd = page_of(folder, "names", build_explorer(pictures, heats, replace(record, classes=names)))
    browser.open(odd, READY)
    same(browser.run("[window.bad === undefined, [...document.querySelector('#true').options].slice(1, 5).map(o => o.text)]"),
         [True, list(names[:4])], "names are text")
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    plain = page_of(folder, "plain", build_explorer(pictures, heats, record))
    browser.call("Page.navigate", url=plain.as_uri())
    browser.until("document.readyState === 'complete'")
    same(browser.run("document.querySelectorAll('#plain li').length"), len(record), "a plain grid without JavaScript")
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    without = browser.call("Page.addScriptToEvaluateOnNewDocument",
                           source="HTMLCanvasElement.prototype.getContext = () => null")["identifier"]
    browser.open(plain, READY)
    same(browser.run(f"[{TILES}.length, document.querySelectorAll('canvas').length, "
                     "document.querySelector('#no-canvas').checkVisibility(), "
                     "document.querySelector('#heat-controls').checkVisibility()]"),
         [len(record), 0, True, False], "a plain grid without canvas")
    choose(browser, "predicted", 5)
    same(0 < len(shown(browser)) < len(record), True, "its filters work")
    browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=without)


def check_first_paint(browser, page):
    "What one reads and presses stands there while the pixels are still on their way."
    never = browser.call("Page.addScriptToEvaluateOnNewDocument", source="HTMLImageElement.prototype.decode = () => new Promise(() => {})")
    browser.open(page)
    same(browser.run(f"[{TILES}.length, document.querySelector('#matrix').checkVisibility(), document.documentElement.dataset.ready === undefined]"),
         [41, True, True], "tiles and matrix before the pixels")
    choose(browser, "predicted", 5)
    browser.click(TILES + "[0]")
    same(browser.run(f"[{VIEW}.open, {VIEW}.querySelectorAll('.picture').length]"), [True, 1], "the larger view too")
    browser.call("Page.removeScriptToEvaluateOnNewDocument", **never)
    order = ("Content-Security-Policy", 'id="tiles"', 'id="data"', "main();", "data:image/webp", 'id="maps"')
    places = [page.read_text(encoding="utf-8").find(mark) for mark in order]
    same(places, sorted(places), "all pixels stand at the end of the page")


HASH = "location.hash"


def check_links(browser, page, record):
    "A link opens a mistake; the address follows the larger view; Back closes it, and closing goes back."
    surest, title = record.indices[np.argsort(-record.confidence, kind="stable")].tolist(), "document.querySelector('#view-facts').textContent"
    def at(*wanted): browser.until(f"JSON.stringify([{VIEW}.open, {HASH}]) === JSON.stringify({json.dumps(wanted)})")
    browser.open(page, READY)
    start = browser.run("history.length")
    browser.click(TILES + "[3]")
    at(True, f"#mistake-{surest[3]}")
    browser.press("ArrowRight")
    at(True, f"#mistake-{surest[4]}")
    same(browser.run("history.length"), start + 1, "turning over is no new step")
    browser.run("history.back()")
    at(False, "")
    for _ in range(3):
        browser.run(f"{TILES}[5].click()")
        browser.press("Escape")
        browser.run(f"{TILES}[6].click()")  # before the browser has gone back
        at(True, f"#mistake-{surest[6]}")
        browser.press("Escape")
        at(False, "")
    same(browser.run("history.length"), start + 1, "no steps are left over")
    # A link, to one that the filters hide and that stands far down.
    choose(browser, "predicted", int(record.predicted[record.indices == surest[0]][0]))
    last = next(i for i in reversed(surest) if record.predicted[record.indices == i] != record.predicted[record.indices == surest[0]])
    browser.run(f"{HASH} = 'mistake-{last}'")
    browser.until(f"{VIEW}.open && {title}.startsWith('Image {last} ')")
    browser.run("history.back()")
    at(False, "")
    browser.call("Page.navigate", url="about:blank")
    browser.call("Page.navigate", url=f"{page.as_uri()}#mistake-{last}")
    browser.until(f"document.readyState === 'complete' && {READY}")
    same(browser.run(f"[{VIEW}.open, {title}.split(' · ')[0]]"), [True, f"Image {last}"], "opened by a link")
    browser.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    browser.click("document.querySelector('#copy')")
    browser.until("document.querySelector('#copy').textContent !== 'Copy link'")
    same(browser.run("document.querySelector('#copy').textContent"), "Copied", "the link is copied")
    same(browser.run("navigator.clipboard.readText()"), f"{page.as_uri()}#mistake-{last}", "the link")
    browser.press("Escape")
    at(False, "")


def check_links_in_book(browser, folder, explorer):
    "In the frame on a page of the book the link is that of the page; a notebook's address stays as it is."
    view, index = "document.querySelector('iframe').contentDocument.querySelector('#view')", json.loads(explorer.page.split('id="data">')[1].split("</script>")[0])["index"]
    ready = "document.querySelector('iframe')?.contentDocument?.documentElement?.dataset.ready === ''"
    tile = "document.querySelector('iframe').contentDocument.querySelector('#tiles .tile')"
    for name, width in (("quarto-light", 1280), ("quarto-dark", 390), ("jp-Notebook", 1280)):
        host = Path(folder) / f"{name}.html"
        host.write_text(f"<!DOCTYPE html><meta charset=utf-8><meta name=viewport content='width=device-width'><body class={name}>"
                        f"<p style='height: 3000px'>before</p>{explorer._repr_html_()}", encoding="utf-8")
        browser.size(width, 844)
        browser.call("Page.navigate", url="about:blank")
        browser.call("Page.navigate", url=f"{host.as_uri()}#mistake-{index[-1]}")
        browser.until(ready)
        linked = name != "jp-Notebook"
        same(browser.run(f"[{view}.open, document.querySelector('iframe').contentDocument.querySelector('#copy').hidden]"), [linked, not linked], f"{name}: a link")
        if linked:
            place = browser.run(f"(r => [r.top, r.bottom].map(y => y + document.querySelector('iframe').getBoundingClientRect().top))({view}.getBoundingClientRect())")
            same(-1 <= place[0] < place[1] <= 845, True, f"{name}: the larger view is on the screen, {place}")
            browser.run(f"{view}.close()")
            browser.until(f"{HASH} === ''")
        browser.run(f"{tile}.click()")
        same(browser.run(HASH) == f"#mistake-{index[-1]}", not linked, f"{name}: the address")
        if linked:
            browser.run("history.back()")
            browser.until(f"!{view}.open && {HASH} === ''")


def check_filter(explorer):
    "For Quarto the frame is a raw block, not the HTML output that makes it load scripts from elsewhere."
    frame = explorer._repr_html_()
    notebook = {"cells": [{"source": "text"}, {"outputs": [{"data": {"text/html": [frame[:9], frame[9:]], "text/plain": "x"}}]}]}
    same(plain(notebook)["cells"][1]["outputs"][0]["data"],
         {"text/plain": "x", "text/markdown": f"```{{=html}}\n{frame}\n```\n"}, "filtered output")
    same("```" in frame, False, "nothing in it ends the block")


def screenshots(browser, page, folder):
    Path(folder).mkdir(parents=True, exist_ok=True)

    def keep(name):
        picture = browser.call("Page.captureScreenshot", format="png")["data"]
        (Path(folder) / f"{name}.png").write_bytes(base64.b64decode(picture))
    for dark in (False, True):
        theme = "dark" if dark else "light"
        for name, width, height in (("desktop", 1280, 800), ("phone", 375, 667)):
            browser.size(width, height, dark, scale=2 if width < 600 else 1)
            browser.open(page, READY)
            keep(f"{name}-{theme}")
            browser.click(TILES + "[1]")
            keep(f"{name}-{theme}-view")


def main(folder_of_pictures=None, page_to_show=None):
    program = find_browser()
    if program is None:
        print("skipped: neither Chromium nor Chrome is installed")
        return
    pictures, heats, record = mistakes()
    explorer = build_explorer(pictures, heats, record, "in 50 images (82 %)", {int(record.indices[3]): "a note"},
                              facts_of(record), {int(i): told for i, (told, _) in zip(record.indices, WHOSE)})
    with tempfile.TemporaryDirectory() as folder, Browser(program) as browser:
        page = page_of(folder, "explorer", explorer)
        browser.size(1280, 800)
        browser.open(page, READY)
        check_start(browser, pictures, record)
        check_filters(browser, record)
        check_facts(browser, record)
        check_matrix(browser, record)
        check_pixels(browser, pictures, heats, record)
        check_bare_picture(browser, pictures, heats, record)
        check_view(browser, pictures, heats, record)
        check_whose(browser, record)
        check_labels(browser)
        check_targets(browser, "on a desk")
        check_more(browser, folder)
        check_sizes(browser, folder)
        check_theme(browser, page)
        check_first_paint(browser, page)
        check_links(browser, page, record)
        check_links_in_book(browser, folder, explorer)
        check_phone(browser, page)
        check_phone_frame(browser, folder, explorer)
        check_host(browser, folder, explorer)
        check_filter(explorer)
        check_odd_pages(browser, folder, pictures, heats, record)
        if folder_of_pictures: screenshots(browser, page_to_show or page, folder_of_pictures)
        same(browser.logged, [], "logged as error or warning")
        elsewhere = [url for url in browser.requested if not url.startswith(Path(folder).as_uri())]
        same([url for url in elsewhere if not page_to_show], [], "asked of the network")
    print(f"the explorer works in {Path(program).name}")


if __name__ == "__main__": main(*sys.argv[1:])
