"Chapter 16: bets on recorded comparisons, and the reader's own calibration."
import json

import numpy as np
from scipy.stats import binom, binomtest

from explorer import same

NOTEBOOK = "16_experiments"
BOX = "document.querySelector('#try-bets')"
SAID = BOX + ".querySelector('.try-said').textContent"
SMALL = "ResNet-18 with a quarter of its channels, four epochs, Muon"
NARROW = "ResNet-18 with an eighth of its channels, four epochs, SGD"
SHORT = "ResNet-18 with a quarter of its channels, two epochs"
PLAIN = "He et al.'s narrow networks, 20 epochs, SGD"
FEW = "ResNet-18 with a quarter of its channels, 24 epochs of 10,000 images"
# A name, the question, the two arms with their words, the series, and the setting.
QUESTIONS = [
    ("flip", "What does the flip give, which mirrors each image in every other epoch?", ("all", "with flip"), ("no-flip", "without"), "ingredients", SMALL),
    ("one cycle", "What does one cycle give over a constant rate, each with the peak that suited it best?", ("OneCycle", "one cycle"), ("Constant", "constant"), "schedules", NARROW),
    ("crop, few images", "What does the random crop give, if the network sees the same 10,000 images 24 times?", ("crop", "with crop"), ("none", "without"), "augmentation", FEW),
    ("cutout", "What does cutout give in a short run?", ("all", "with cutout"), ("no-cutout", "without"), "ingredients", SMALL),
    ("twice as long", "What do 40 epochs give over 20, in this book's reference recipe?", ("40-epochs", "40 epochs"), ("20-epochs", "20 epochs"), "reference", "ResNet-18, Muon"),
    ("Muon", "What does Muon give over SGD, with nothing else changed?", ("all", "Muon"), ("SGD", "SGD"), "ingredients", SMALL),
    ("shortcuts, 20 layers", "What do the shortcuts give a network of 20 layers?", ("residual-20", "with shortcuts"), ("plain-20", "without"), "degradation", PLAIN),
    ("label smoothing", "What does label smoothing give in a short run?", ("all", "with smoothing"), ("no-smoothing", "without"), "ingredients", SMALL),
    ("peak of 0.5", "What does a peak of 0.5 give over one of 0.05?", ("0.5", "0.5"), ("0.05", "0.05"), "peaks-sgd", f"{SHORT}, SGD"),
    ("depth, plain", "What do 56 layers give over 20, without shortcuts?", ("plain-56", "56 layers"), ("plain-20", "20 layers"), "degradation", PLAIN),
    ("average", "What does it give to test an average of the weights of the last steps, in place of the last weights?", ("all", "average"), ("no-average", "last weights"), "ingredients", SMALL),
    ("rise before a cosine", "A cosine fall: what does a rise in front of it give?", ("OneCycle-cosine", "with rise"), ("Cosine", "without"), "schedules", NARROW),
    ("depth, shortcuts", "What do 56 layers give over 20, with shortcuts?", ("residual-56", "56 layers"), ("residual-20", "20 layers"), "degradation", PLAIN),
    ("crop", "What does the random crop give in a short run on all 50,000 images?", ("all", "with crop"), ("no-crop", "without"), "ingredients", SMALL),
    ("SGD or Adam", "The original tutorial's two runs: what does SGD give over Adam?", ("original_sgd", "SGD"), ("original", "Adam"), "baselines", "ResNet-18, 20 epochs"),
    ("flip, few images", "What does the flip add to the crop, if the network sees the same 10,000 images 24 times?", ("crop-and-flip", "crop and flip"), ("crop", "crop alone"), "augmentation", FEW),
    ("weight decay", "What does weight decay give in a short run?", ("all", "with decay"), ("no-decay", "without"), "ingredients", SMALL),
    ("Adam's peak", "Adam: what does a peak of 0.01 give over one of 0.001?", ("0.01", "0.01"), ("0.001", "0.001"), "peaks-adam", f"{SHORT}, Adam"),
    ("four times as long", "What do 80 epochs give over 20, in this book's reference recipe?", ("80-epochs", "80 epochs"), ("20-epochs", "20 epochs"), "reference", "ResNet-18, Muon"),
    ("shortcuts, 56 layers", "What do the shortcuts give a network of 56 layers?", ("residual-56", "with shortcuts"), ("plain-56", "without"), "degradation", PLAIN),
]


def compared(first, second, series):
    from cifar_gradcam.lab.series import compare_arms, load_series
    arms = load_series(series)
    return arms[first], arms[second], compare_arms(arms[first], arms[second])


def parts(folder):
    "For each question the accuracies of both arms, and what chapter 16 computes of them."
    found = []
    for name, question, (first, one), (second, other), series, setting in QUESTIONS:
        *arms, gain = compared(first, second, series)
        found.append({"name": name, "question": question, "arms": [one, other], "setting": setting, "command": f"cifar_gradcam experiment {series}",
                      "reached": [[round(run.accuracy, 2) for run in arm] for arm in arms], "gains": np.round(gain.by_seed, 2).tolist(),
                      "mean": round(gain.mean, 3), "low": round(gain.low, 2), "high": round(gain.high, 2)})
    return {"questions": found}


def check(browser): pass
