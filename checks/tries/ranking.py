"Chapter 08d: the ranking of maps as a table to sort, to filter, and to compare with any of its rows."
import re

import numpy as np
from scipy import stats

from explorer import same

NOTEBOOK = "08d_ranking_maps"
TESTS = {"road": "ROAD", "insertion mean": "insertion, mean colour", "deletion mean": "deletion, mean colour",
         "insertion blur": "insertion, blur", "deletion blur": "deletion, blur"}
NAMES = {"gradcam": "Grad-CAM", "gradcam++": "Grad-CAM++", "hirescam": "HiResCAM", "layercam": "LayerCAM", "eigencam": "EigenCAM",
         "scorecam": "ScoreCAM", "ablationcam": "AblationCAM"}


def groups_of(record):
    from cifar_gradcam.lab.maps import answered_wrong
    wrong = answered_wrong(record)
    return {"mistakes": wrong, "right answers": ~wrong, "all": np.ones(len(wrong), dtype=bool)}


def compared(record, names, test, group):
    """Each row against each other: means on all images of a row and on those that all rows have, the ends of the 95 % intervals
    of the differences for i < j, and for each row a letter against each other: better, worse; a capital if it survives Holm; + or - among controls."""
    from cifar_gradcam.lab.maps import CONTROLS, holm, image_scores, MEASURES
    scores = [100 * MEASURES[test] * image_scores(record, name, test) for name in names]
    least, n = min(map(len, scores)), np.array([len(s) for s in scores])

    def of(count):  # the rows with so many images: their values, and the means of the draws of `bootstrap_interval`
        table = np.array([s[:count][group[:count]] for s in scores if len(s) >= count])
        drawn = np.random.default_rng(0).integers(0, table.shape[1], (4000, table.shape[1]))
        times = np.stack([np.bincount(row, minlength=table.shape[1]) for row in drawn])
        return table, times @ table.T / table.shape[1]
    tables = {count: of(count) for count in {least, n.max()}}
    places = {count: np.cumsum(n >= count) - 1 for count in tables}
    low, high, p, better = [], [], np.ones((len(names), len(names))), np.zeros((len(names), len(names)))
    for i in range(len(names)):
        for j in range(i + 1, len(names)):
            count = min(n[i], n[j])
            values, means = tables[count]
            a, b = places[count][[i, j]]
            ends = np.percentile(means[:, a] - means[:, b], (2.5, 97.5))
            low.append(round(100 * ends[0]))
            high.append(round(100 * ends[1]))
            p[i, j] = p[j, i] = stats.ttest_1samp(values[a] - values[b], 0).pvalue
            better[i, j] = int(ends[0] > 0) - int(ends[1] < 0)
            better[j, i] = -better[i, j]
    letters, known = [], np.array([name.startswith(CONTROLS) for name in names])
    for c in range(len(names)):
        family = [i for i in range(len(names)) if i != c and not (known[c] and known[i])]  # as in the chapter: maps against a control
        sure = dict(zip(family, holm(p[family, c]) < 0.05))
        signs = [("-s+" if known[c] and known[i] else "wsb")[int(v) + 1] for i, v in enumerate(better[:, c])]
        letters.append("".join(letter.upper() if sure.get(i) else letter for i, letter in enumerate(signs)))
    sign = MEASURES[test]
    return {"means": [[round(sign * float(s[:k][group[:len(s[:k])]].mean()), 3) for s in scores] for k in (None, least)], "low": low, "high": high, "letters": letters}


def parts(folder):
    "Two tables, of the maps for the answer and for the contrast; in each all tests on all kinds of images."
    from torch.nn import Conv2d

    from cifar_gradcam.engine.runs import load_reference
    from cifar_gradcam.lab.maps import best_control, COSTLY, faithfulness_record, MEASURES
    record, network = faithfulness_record(), load_reference("cpu")
    groups, tables = groups_of(record), {}

    def channels(layer): return [m for m in network.get_submodule(layer).modules() if isinstance(m, Conv2d)][-1].out_channels
    for target in ("predicted", "contrast"):
        names, rows = [name for name, entry in record["maps"].items() if entry["target"] == target], []
        for name in names:
            entry = record["maps"][name]
            method, layers = entry["method"], entry["layers"]
            passes = 0 if not layers else 1 + channels(layers[0]) if method in COSTLY else 1 if method == "eigencam" else 2
            rows.append({"name": NAMES.get(method, method), "layers": f"layers {', '.join(layer[-1] for layer in layers)}" if len(layers) > 1 else "".join(layers), "passes": passes,
                         "images": {kind: int(own[:entry["images"]].sum()) for kind, own in groups.items()}})
        tables[target] = {"rows": rows, "rival": names.index(best_control(record, target=target)),
                          "results": {kind: {test: compared(record, names, test, own) for test in TESTS} for kind, own in groups.items()}}
    return {"tests": TESTS, "signs": MEASURES, "groups": {kind: int(own.sum()) for kind, own in groups.items()}, "tables": tables}


BOX = "document.querySelector('#try-ranking')"
GAPS = """[...{0}.querySelectorAll('tbody tr:not(.rk-own)')].map(row => {
  const words = document.createRange();
  words.setStart(row.querySelector('.rk-number'), 0);
  words.setEndAfter([...row.querySelector('.rk-number').childNodes].find(part => part.nodeType === 3));
  return row.querySelector('.rk-tests span').getBoundingClientRect().left - words.getBoundingClientRect().right; })""".replace("{0}", BOX)
ROWS = BOX + ".querySelectorAll('tbody tr')"


def check(browser):
    "By keyboard and by pointer: every row, its interval and its mark are what the functions of the chapter give, in the order that was asked for."
    from cifar_gradcam.lab.maps import best_control, compare_maps, CONTROLS, COSTLY, faithfulness_record, image_scores, MEASURES, rank_table
    record = faithfulness_record()
    groups = groups_of(record)

    def name_of(words):  # of a row, as the record has it
        label, layers = words
        method = next((method for method, own in NAMES.items() if own == label), label)
        return " ".join(filter(None, (method, "+".join(f"layer{k}" for k in re.findall(r"\d", layers)))))

    def rows(rival, group="mistakes", test="road", end=""):
        found = browser.run(f"[...{ROWS}].map(row => [row.querySelector('button').firstChild.textContent, row.querySelector('small')?.textContent ?? '', "
                            "row.querySelector('.rk-number').textContent, row.querySelector('.rk-score').textContent, row.classList.contains('rk-own')])")
        names = [name_of((label, layers if "layer" in layers else "")) + end for label, layers, *_ in found]
        for name, (*_, number, score, own) in zip(names, found):
            if own:
                same(name, rival, "the row that is compared")
                continue
            mean, low, high = (100 * v for v in compare_maps(record, name, rival, test, groups[group]))
            shown = [float(v) for v in re.findall(r"[+-]?\d+\.\d", number.replace("−", "-"))]
            if max(abs(np.subtract(shown, (mean, low, high)))) > 0.07: raise AssertionError(f"{name} over {rival}: {number} on the page, {mean, low, high} computed")
            signs = "⊕⊖" if name.startswith(CONTROLS) and rival.startswith(CONTROLS) else ("▲△", "▼▽")
            same(number[0] in (signs[0] if low > 0 else signs[1] if high < 0 else "="), True, f"the mark of {name}: {number}, {low} to {high}")
            values = image_scores(record, name, test)
            if abs(float(score.replace("−", "-")) - 100 * values[groups[group][:len(values)]].mean()) > 0.051: raise AssertionError(f"{name}: {score}")
        said = browser.run(BOX + ".querySelector('.try-said').textContent")
        counted = [number[0] for name, (*_, number, _, own) in zip(names, found) if not own and not (name.startswith(CONTROLS) and rival.startswith(CONTROLS))]
        counts = [sum(mark in kinds for mark in counted) for kinds in ("▲△", "▼▽", "=", "▲")]
        better, worse, alike, sure = (f"{n or 'none'}|{'are' if n > 1 else 'is'}" for n in counts)
        kind, rest = ("maps", f" The {len(names) - 1 - len(counted)} other controls are not counted.") if rival.startswith(CONTROLS) else ("other rows", "")
        words = f"{better.replace('|', f' of the {len(counted)} {kind} ')} better, {worse} worse, and {alike} too close to call. After Holm’s correction for all rows, {sure} still better.{rest}"
        same(said.endswith(words.replace("|", " ")), True, said)
        return names

    def sorted_by(names, rival, group="mistakes", test="road"):
        leads = [compare_maps(record, name, rival, test, groups[group])[0] for name in names]
        if not all(a >= b - 1e-4 for a, b in zip(leads, leads[1:])): raise AssertionError(f"not sorted: {leads}")
    rival = best_control(record)
    names = rows(rival)
    same(set(names), {name for name, entry in record["maps"].items() if entry["target"] == "predicted" and (not entry["layers"] or entry["layers"][-1] == "layer4")}, "the rows at first")
    sorted_by(names, rival)
    browser.run(BOX + ".querySelector('.rk-lead button').focus()")  # by keyboard: the other way round, then by name
    browser.press("Enter")
    sorted_by(rows(rival)[::-1], rival)
    same(browser.run(BOX + ".querySelector('.rk-lead').getAttribute('aria-sort')"), "ascending", "what a screen reader hears of it")
    browser.run(BOX + ".querySelector('.rk-map button').focus()")
    browser.press(" ")
    by_name = rows(rival)
    same([by_name[0].split()[0], browser.run(f"[...{BOX}.querySelectorAll('[aria-sort]')].map(cell => cell.textContent)")], ["ablationcam", ["Map"]], "by name")
    browser.run(f"{ROWS}[{by_name.index('gradcam layer4')}].querySelector('button').focus()")
    browser.press("Enter")
    same(rows("gradcam layer4"), by_name, "compared with another row, in the same order")
    same(browser.run("document.activeElement.closest('tr').classList.contains('rk-own')"), True, "the focus stays")
    browser.click(BOX + ".querySelector('.rk-lead button')")
    sorted_by(rows("gradcam layer4"), "gradcam layer4")

    def choose(name, k): browser.click(f"[...{BOX}.querySelectorAll('fieldset')].find(f => f.querySelector('legend').textContent === '{name}').querySelectorAll('label')[{k}]")
    choose("Images", 1)
    choose("Test", 4)
    sorted_by(rows("gradcam layer4", "right answers", "deletion blur"), "gradcam layer4", "right answers", "deletion blur")
    choose("Layers", 1)
    choose("Cost", 1)
    same(set(rows("gradcam layer4", "right answers", "deletion blur")),
         {name for name, entry in record["maps"].items() if entry["target"] == "predicted" and entry["method"] not in COSTLY}, "all quick maps")
    choose("Cost", 0)
    choose("Images", 2)
    choose("Test", 0)
    browser.click(f"[...{ROWS}].find(row => row.textContent.startsWith('{rival}')).querySelector('button')")
    names = rows(rival, "all")
    marks = dict(zip(names, browser.run(f"[...{ROWS}].map(row => row.querySelector('.rk-number').textContent[0])")))
    survive = {row["name"] for row in rank_table(record) if row["survives"]}
    same({name for name, mark in marks.items() if mark == "▲"}, survive, "what survives Holm's correction in the chapter")
    five = browser.run(f"[...{ROWS}].map(row => [...row.querySelectorAll('.rk-tests span')].map(one => one.textContent).join(''))")
    for name in ("gradcam layer4", "gradcam layer1", "eigencam layer2"):
        for mark, test in zip(five[names.index(name)], MEASURES, strict=True):
            _, low, high = compare_maps(record, name, rival, test)
            same(mark in ("▲△" if low > 0 else "▼▽" if high < 0 else "="), True, f"{test} of {name}: {mark}, {low} to {high}")
    choose("Question", 1)
    same(set(rows(best_control(record, target="contrast"), "all", end=" contrast")), {name for name, entry in record["maps"].items() if entry["target"] == "contrast"}, "the contrast")
    same(all(name.startswith(CONTROLS) for name in names if not re.search("cam", name)), True, "controls")
    choose("Question", 0)
    above = browser.run(f"[...{BOX}.querySelectorAll('.try-quiet')].filter(p => p.compareDocumentPosition({BOX}.querySelector('table')) & 4).map(p => p.textContent).join()")
    same([mark for mark in "▲△=▽▼⊕⊖" if mark not in above], [], "what the marks mean is said above the table")
    browser.size(390, 844)
    browser.run("new Promise(done => setTimeout(done, 200))")
    gaps = browser.run(GAPS)
    if min(gaps) < 6: raise AssertionError(f"numbers run into the triangles: {gaps} px between them")
    browser.size(1440, 900)
