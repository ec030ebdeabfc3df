"""Measure fine-tuning on photographs, and write its record: python checks/fine_tuning.py STAMPS RUNS

STAMPS is usr/share/tuxpaint/stamps of Debian's package tuxpaint-stamps-default (2022.06.04-1):
    apt-get download tuxpaint-stamps-default && dpkg -x tuxpaint-stamps-default_*.deb .
RUNS is a folder for copies of the pictures and for the runs; the same command continues there.

Three classes that CIFAR-10 does not have; 20 pictures of each are kept to test on. Five times, 20 others of each are
drawn to train on. All arms of a draw see the same pictures. None of them enters the repository. The rates were chosen
on other pictures of that package: plants, birds and small animals.
"""
import hashlib
import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from cifar_gradcam.engine.datasets import load_images
from cifar_gradcam.engine.files import write_json
from cifar_gradcam.engine.recipes import recipes, train_run

RECORD = Path(__file__).parents[1] / "cifar_gradcam" / "records" / "fine_tuning.json"
CLASSES = {"food": ["food"], "mammal": ["animals/mammals"], "thing": ["household", "hobbies"]}
# Drawings, and animals that CIFAR-10 has.
LEFT_OUT = {"cartoon", "toys", "pizza.png", "cats", "dogs", "deer", "equines"}
ARMS = {
    "fine-tuned": dict(),
    "frozen up to layer3": dict(freeze="layer3"),
    "from scratch": dict(weights=None),
}
DRAWS, SIZE = 5, 20


def pictures(stamps, folders):
    "The photographs of a class, in an order that does not change."
    return [path for folder in folders for path in sorted((stamps / folder).rglob("*.png"))
            if not LEFT_OUT & set(path.relative_to(stamps).parts)]


def lay_out(stamps, out, draw):
    "A folder of train and test for one draw; the test pictures are those of all draws."
    for k, (name, folders) in enumerate(CLASSES.items()):
        order = np.random.default_rng([0, k]).permutation(pictures(stamps, folders))
        drawn = np.random.default_rng([1, draw, k]).permutation(order[SIZE:])[:SIZE]
        for part, chosen in (("train", drawn), ("test", order[:SIZE])):
            (out / part / name).mkdir(parents=True)
            for path in chosen:
                shutil.copy(path, out / part / name / "-".join(path.relative_to(stamps).parts))


def measure(stamps, runs):
    "Train each arm on each draw, and write what it answered to each test picture."
    predicted = {arm: [] for arm in ARMS}
    for arm, changes in ARMS.items():
        for draw in range(DRAWS):
            data, out = runs / f"draw{draw}", runs / f"{arm}, draw {draw}"
            if not data.exists(): lay_out(stamps, data, draw)
            train_run(replace(recipes["finetune"], data=str(data), seed=draw, **changes), out)
            predicted[arm].append(np.load(out / "predicted.npy").tolist())
    training, testing = load_images(source=str(data))
    names = [str(path.relative_to(stamps)) for folders in CLASSES.values() for path in pictures(stamps, folders)]
    write_json(RECORD, {
        "made_by": "python checks/fine_tuning.py STAMPS RUNS", "package": "tuxpaint-stamps-default 2022.06.04-1",
        "classes": list(CLASSES), "pictures": len(names),
        "names_sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        "train_images": len(training.data), "own_mean": training.info.mean, "own_std": training.info.std,
        "labels": list(testing.targets), "predicted": predicted,
        "recipe": asdict(recipes["finetune"]), "changes": ARMS,
        "environment": json.loads((out / "environment.json").read_text())})


if __name__ == "__main__":
    if len(sys.argv) != 3: sys.exit(__doc__)
    measure(*map(Path, sys.argv[1:]))
