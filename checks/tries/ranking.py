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
    of the differences for i < j, and for each row a letter against each other: better, worse; a capital if it survives Holm."""
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
        letters.append("".join(letter.upper() if sure.get(i) else letter for i, letter in enumerate("wsb"[int(v) + 1] for v in better[:, c])))
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
            rows.append({"name": NAMES.get(method, method), "layers": " + ".join(layers), "passes": passes,
                         "images": {kind: int(own[:entry["images"]].sum()) for kind, own in groups.items()}})
        tables[target] = {"rows": rows, "rival": names.index(best_control(record, target=target)),
                          "results": {kind: {test: compared(record, names, test, own) for test in TESTS} for kind, own in groups.items()}}
    return {"tests": TESTS, "signs": MEASURES, "groups": {kind: int(own.sum()) for kind, own in groups.items()}, "tables": tables}
