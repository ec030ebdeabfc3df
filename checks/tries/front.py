"The front page: a dog that the network calls a cat, with a map for each class; one covers parts of the picture by tapping."
import numpy as np

from explorer import same

NOTEBOOK = "index"
STILL = "fig-front"
PLACE = 9360  # in the test set
# What each cell of the grid shows, row by row.
CELLS = ["the upper left corner", "the tip of the tail", "the ears", "the edge of an ear",
         "the background behind the dog", "the back", "the face", "the muzzle",
         "the hind leg", "the belly", "the chest", "the far front leg",
         "the lower left corner", "the shadow", "the near front leg", "the paws"]
ROOT = "document.querySelector('#try-front')"


def parts(folder):
    "The picture; for each class, its score and its map; for each way to cover, the shares of all classes, in 10,000: whole, then without each cell."
    import torch

    from cifar_gradcam.augment import download_data
    from cifar_gradcam.data import CIFAR10_MEAN
    from cifar_gradcam.engine.datasets import cifar10, data_source, DataError
    from cifar_gradcam.engine.runs import load_reference
    from cifar_gradcam.gradcam import signed_maps
    from cifar_gradcam.mistakes.covering import covered_logits, GAMES
    if data_source() != "real": raise DataError("the picture is one of CIFAR-10")
    model, (_, test, _, _, classes) = load_reference(), download_data()
    image, true = test[PLACE]
    hidden = torch.cat([torch.zeros(1, 16), torch.eye(16)]).bool().reshape(-1, 4, 4)
    shares = [covered_logits(model, image[None], torch.zeros(17, dtype=torch.long), hidden, game).double().softmax(1) for game in GAMES]
    predicted = shares[0][0].argmax().item()
    maps, scores = signed_maps(model, image[None].repeat(2, 1, 1, 1), torch.tensor([predicted, true]))
    return {"place": PLACE, "pixels": cifar10(train=False).data[PLACE].tobytes().hex(), "classes": list(classes), "true": int(true), "predicted": predicted,
            "scores": [round(score, 4) for score in scores.tolist()], "maps": [[round(v, 4) for v in grid.flatten().tolist()] for grid in maps],
            "cover": [round(255 * mean) for mean in CIFAR10_MEAN],
             "shares": [(10_000 * way).round().int().tolist() for way in shares], "cells": CELLS}


def check(browser): pass
