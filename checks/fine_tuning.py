"""Measure fine-tuning on photographs, and write its record: python checks/fine_tuning.py STAMPS [RECORD]

STAMPS is usr/share/tuxpaint/stamps of Debian's package tuxpaint-stamps-default (2022.06.04-1):
    apt-get download tuxpaint-stamps-default && dpkg -x tuxpaint-stamps-default_*.deb stamps

Three classes that CIFAR-10 does not have; 20 pictures of each are kept to test on. Five times, 20 others of each are
drawn to train on. All arms of a draw see the same pictures. None of them enters the repository. The rates were chosen
on other pictures of that package: plants, birds and small animals.
"""
import hashlib
import json
import shutil
import sys
import tempfile
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
    "from scratch": dict(weights=None, max_lr=0.1),
    "fine-tuned": dict(),
    "frozen up to layer3": dict(freeze="layer3"),
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


def measure(stamps, record):
    "Train each arm on each draw, and write what it answered to each test picture."
    arms = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        for draw in range(DRAWS):
            data = Path(folder, f"draw{draw}")
            lay_out(stamps, data, draw)
            training, testing = load_images(source=str(data))
            for arm, changes in ARMS.items():
                out = Path(folder, f"{arm}-{draw}")
                train_run(replace(recipes["finetune"], data=str(data), seed=draw, **changes), out)
                arms[arm].append(np.load(out / "predicted.npy").tolist())
                print(f"draw {draw}, {arm}: {json.loads((out / 'metrics.json').read_text())['test_accuracy']:.1f} %",
                      flush=True)
        environment = json.loads((out / "environment.json").read_text())
    names = [str(path.relative_to(stamps)) for folders in CLASSES.values() for path in pictures(stamps, folders)]
    write_json(record, {
        "made_by": "python checks/fine_tuning.py STAMPS", "package": "tuxpaint-stamps-default 2022.06.04-1",
        "classes": list(CLASSES), "pictures": len(names),
        "names_sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        "train_images": len(training.data), "own_mean": training.info.mean, "own_std": training.info.std,
        "labels": list(testing.targets), "predicted": arms, "recipe": asdict(recipes["finetune"]), "changes": ARMS,
        "environment": environment})


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3): sys.exit(__doc__)
    measure(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else RECORD)
