"The command line: options, messages, exit statuses, and what is written where."
import contextlib
import dataclasses
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torchvision
from matplotlib.figure import Figure
from PIL import Image
from tools import close, equal, refused

import cifar_gradcam
from cifar_gradcam import gradcam
from cifar_gradcam.data import CIFAR10_MEAN, CIFAR10_STD, DatasetInfo
from cifar_gradcam.engine import cli, pictures, recipes
from cifar_gradcam.engine.cli import (
    asked_recipe, data_name, main, parser, positive_int, read_arguments)
from cifar_gradcam.engine.datasets import synthetic_images
from cifar_gradcam.engine.runs import History, load_info, load_recipe, load_run, Recipe, reference_folder
from cifar_gradcam.engine.weights import cifar_resnet
from cifar_gradcam.lab import series
from cifar_gradcam.lab.bench import BenchPlan
from cifar_gradcam.mistakes.predictions import wilson_interval
from cifar_gradcam.resnet import MODELS, ResNet18

MEASURE = "cifar_gradcam.lab.maps.faithfulness_command"
TINY = "--batch-size 20 --width 8 --max-lr 0.05 --precision float32".split()
MADE = ["--data", "synthetic", "--limit", "40", "--root", "generated", *TINY]


class Terminal(io.StringIO):
    "Keeps what is printed; Ctrl-C as soon as a line begins with this number of an epoch."
    def __init__(self, stop=None):
        super().__init__()
        self.stop = stop

    def write(self, text):
        super().write(text)
        if self.stop and re.match(rf" +{self.stop} +\d", text): raise KeyboardInterrupt


def run(*words, stop=None):
    "Exit status, and all that was printed."
    with contextlib.redirect_stdout(Terminal(stop)) as printed, contextlib.redirect_stderr(printed):
        status = main([str(word) for word in words])
    assert "Traceback" not in printed.getvalue()
    return status, printed.getvalue()


def succeeds(*words):
    status, printed = run(*words)
    assert status == 0, printed
    return printed


def fails(wanted, *words):
    status, printed = run(*words)
    assert status == 1 and wanted in printed, printed
    return printed


def advised(printed): return shlex.split(printed.partition("cifar_gradcam train")[2].partition("\n")[0])


def write_folder(folder, n, names, parts=("train", "test")):
    rng = np.random.default_rng(0)
    for part in parts:
        for i, (pixels, label) in enumerate(zip(*synthetic_images(n, rng, len(names)))):
            path = Path(folder, part, names[label], f"{i}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[:, :24] // 2).save(path)


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    "A working folder of this module's own, with no choice of data from outside."
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("place"))
        patch.setenv("CIFAR_GRADCAM_DATA", "")
        yield


@pytest.fixture(scope="module")
def first(place):
    "A finished run of two epochs on 40 generated images, tested on 40 others."
    succeeds("train", *MADE, "--epochs", "2", "--out", "runs/first")
    return "runs/first"


@pytest.fixture(scope="module")
def grain(place):
    "A finished run on a folder of dark pictures of three classes."
    write_folder("grain", 24, ("oats", "rye", "wheat"))
    Path("grain/train/rye/notes.txt").write_text("no picture")
    printed = succeeds("train", "--epochs", "1", *TINY, "--data", "grain", "--out", "runs/grain")
    assert "grain/train/rye/notes.txt" in printed and "on 24 images" in printed
    return "runs/grain"


@pytest.fixture
def offline():
    with mock.patch("urllib.request.urlopen", side_effect=OSError("no network")): yield


@pytest.fixture
def undrawn():
    "Where the grids of pictures are not what is tested: an empty one takes no second to write."
    with mock.patch.object(gradcam, "draw_mistakes", lambda *args, **how: Figure((1, 1))): yield


# Options

def recipe_of(*words): return asked_recipe(read_arguments(["train", *words]))


def complaint(*words):
    with contextlib.redirect_stderr(io.StringIO()) as errors, pytest.raises(SystemExit) as stopped:
        read_arguments(words)
    equal(stopped.value.code, 2)
    return errors.getvalue()


def test_a_recipe_by_name_changed_as_asked(monkeypatch):
    reference = recipes.recipes["reference"]
    equal(recipe_of(), Recipe())
    equal(recipe_of("--recipe", "reference"), reference)
    equal(recipe_of("--recipe", "reference", "--cutout", "16", "--no-zero-last"),
          dataclasses.replace(reference, cutout=16, zero_last=False))
    nones = [word for option in ("--max-lr", "--momentum", "--average", "--limit", "--device")
             for word in (option, "none")]
    equal(recipe_of("--recipe", "reference", *nones),
          dataclasses.replace(reference, max_lr=None, momentum=None, average=None))
    monkeypatch.setenv("CIFAR_GRADCAM_DATA", "synthetic")
    equal(recipe_of(), Recipe(data="synthetic"))
    equal(recipe_of("--data", "real"), Recipe())
    equal(recipe_of("--recipe", "reference").data, "synthetic")


def test_every_field_of_a_recipe_is_an_option():
    other = Recipe(  # every field unlike its default, in words and as a value
        epochs=3, batch_size=64, network="ResNet20", optimizer="Muon", max_lr=0.2,
        max_lr_epoch=2.5, schedule="Cosine", anneal="cosine", final_lr=0.1, matrix_lr=0.1,
        momentum=0.8, nesterov=True, weight_decay=0.1, decay_all=True, label_smoothing=0.2,
        initialization="he", zero_last=True, whiten=True, sync_batchnorm=True, accumulate=2, average=0.5,
        pipeline="batched", pad=2, flip="alternating", cutout=3, cutout_share=0.5,
        cutout_fill="brighter", start_size=16, hold_out=7, width=8, weights="a.pth", weights_key="ema", seed=9,
        data="synthetic", limit=50, precision="float32", compile=True, device="cpu")
    equal(recipe_of("--weights", "a.pth", "--freeze", "layer3"), Recipe(weights="a.pth", freeze="layer3"))
    words = []
    for field in dataclasses.fields(Recipe):
        if field.name == "freeze": continue  # not together with whiten
        value, option = getattr(other, field.name), "--" + field.name.replace("_", "-")
        assert value != field.default, field.name
        words += [option] if value is True else [option, str(value)]
    equal(recipe_of(*words), other)


def test_options_of_the_other_commands():
    measuring = vars(read_arguments(["bench", "--repeats", "3", "--no-compile"]))
    defaults = dataclasses.asdict(BenchPlan()) | dict(device=None, data=None, root=None)
    equal({name: measuring[name] for name in defaults}, defaults | dict(repeats=3, compile=False))
    equal(read_arguments(["train"]).root, None)
    equal(read_arguments(["explain", "a", "--root", "b"]).root, Path("b"))
    equal({action.dest for action in parser()._actions}, {"help", "version", "command"})
    equal((positive_int("3"), data_name("CIFAR10"), data_name(".")), (3, "real", str(Path.cwd().resolve())))


@pytest.mark.parametrize("option, value, wanted", [
    ("--epochs", "ten", "valid integer"), ("--epochs", "none", "valid integer"),
    ("--epochs", "0", "greater than or equal to 1"), ("--average", "no", "valid number"),
    ("--average", "1", "less than 1"), ("--max-lr", "nan", "finite number"),
    ("--cutout", "33", "less than or equal to 32"), ("--cutout", "-1", "equal to 0"),
    ("--recipe", "best", "invalid choice"), ("--optimizer", "Lion", "invalid choice"),
    ("--data", "imagenet", "or a folder of pictures, got")])
def test_a_wrong_value_is_named_with_its_option(option, value, wanted):
    message = complaint("train", f"{option}={value}")
    assert f"argument {option}: " in message and wanted in message and f"'{value}'" in message


def test_complaints():
    assert "or a folder of pictures, got 'imagenet'" in complaint("explain", "a", "--data", "imagenet")
    assert "invalid choice: 'CIFAR100'" in complaint("bench", "--data", "CIFAR100")
    for value in ("0", "ten", "1.5"):
        assert f"--mistakes: must be a whole number of at least 1, got '{value}'" in complaint("explain", "a", "--mistakes", value)
    for value in ("x" * 5000, "~nobody-of-this-name/x"): assert "argument --data: " in complaint("explain", "a", "--data", value)
    assert "required: COMMAND" in complaint()
    assert "unrecognized arguments: --hole" in complaint("train", "--hole", "12")
    refused(lambda: recipe_of("--resume", "--seed", "1"), contains="leave out seed")
    refused(lambda: recipe_of("--resume", "--recipe", "tutorial"), contains="leave out recipe")
    refused(lambda: recipe_of("--flip", "alternating"), contains="needs pipeline='batched'")


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_fits_the_terminal(command, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    with pytest.raises(SystemExit): read_arguments([command, "--help"])
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= width and "--root" in shown
    if command == "train":
        assert "--cutout" in shown and "--hole" not in shown and "PlainNet20" in shown
        if width == 80: assert "passes over the training images [20]" in shown


# Processes, streams and signals

def test_version_and_help_import_nothing_heavy():
    code = ("import sys; from cifar_gradcam.__main__ import main\n"
            "try: main()\nexcept SystemExit: print(*sys.modules, file=sys.stderr)")
    for words, wanted in ((["--version"], f"cifar_gradcam {cifar_gradcam.__version__}\n"),
                          (["--help"], "Measure heat maps: every method and layer"),
                          (["explain", "--help"], "--mistakes NUMBER"), (["experiment", "--help"], "--only RUN")):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True,
                              check=True, env=os.environ | dict(MPLBACKEND="nonsense"))
        assert wanted in done.stdout
        heavy = {"torch", "torchvision", "matplotlib", "numpy", "pydantic", "PIL", "scipy", "sklearn",
                 "albumentations", "cifar_gradcam.all", "cifar_gradcam.train"}
        equal(heavy & {*done.stderr.split()}, set())


def test_the_module_is_the_command_whatever_backend_and_locale(first, undrawn):
    write_folder("Größe", 6, ("groß", "klein"))
    commands = (["explain", first, "--root", "generated", "--mistakes", "1", "--out", "runs/Ærø"],
                ["train", "--epochs", "1", *TINY, "--data", "Größe", "--out", "runs/größer"],
                ["explain", first, "--images", "Größe/test/groß", "--out", "runs/mäps"])
    code = ("import sys; from cifar_gradcam.__main__ import main\nwords = sys.argv[1:]\nwhile words:\n"
            "    end = words.index(';')\n    sys.argv[1:], words = words[:end], words[end + 1:]\n"
            "    if main(): sys.exit(1)")
    ascii_only = dict(LANG="C", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", MPLBACKEND="nonsense")
    module = subprocess.run([sys.executable, "-m", "cifar_gradcam", "--version"], capture_output=True,
                            text=True, env=os.environ | ascii_only)
    equal((module.stdout, module.stderr, module.returncode), (f"cifar_gradcam {cifar_gradcam.__version__}\n", "", 0))
    done = subprocess.run([sys.executable, "-c", code, *(word for words in commands for word in (*words, ";"))],
                          capture_output=True, text=True, env=os.environ | ascii_only)
    equal((done.stderr, done.returncode), ("", 0))
    assert done.stdout.count("Written") == 2 and Path("runs/Ærø/gradcam.png").exists()
    assert "Größe/test/groß" in Path("runs/mäps/pictures.csv").read_text("utf-8")
    equal(load_info(Path("runs/größer")).classes, ("groß", "klein"))  # also by other programs
    succeeds("explain", "runs/größer", "--mistakes", "1")


def test_letters_that_the_output_has_no_code_for(first, monkeypatch, undrawn):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    equal(main(["explain", first, "--root", "generated", "--mistakes", "1", "--out", "runs/Bücher"]), 0)
    assert b"runs/B\\xfccher/gradcam.png" in stream.buffer.getvalue()
    assert Path("runs/Bücher/gradcam.png").exists()


@pytest.mark.parametrize("words", [["train", "--help"], ["train", *MADE, "--out", "runs/head"]])
def test_a_reader_that_goes_away_as_head_does(words, monkeypatch, capfd):
    reading, writing = os.pipe()
    os.close(reading)
    with monkeypatch.context() as patch, open(writing, "w") as stream:
        patch.setattr(sys, "stdout", stream)
        equal(main(words), 141)
    equal(capfd.readouterr().err, "")


def test_ctrl_c_before_and_between_epochs():
    with mock.patch("cifar_gradcam.engine.recipes.train_run", return_value=[1, 2]):
        status, printed = run("train", "--out", "runs/cut")
    equal(status, 130)
    assert "2 of 20 epochs are in runs/cut" in printed and "train --resume --out runs/cut" in printed
    with mock.patch("cifar_gradcam.engine.recipes.train_run", side_effect=KeyboardInterrupt):
        equal(run("train", "--out", "runs/cut"), (130, "cifar_gradcam train: interrupted\n"))


def test_a_fault_of_the_program_keeps_its_traceback():
    with mock.patch("cifar_gradcam.engine.recipes.train_run", side_effect=ZeroDivisionError):
        with pytest.raises(ZeroDivisionError): main(["train"])
    with mock.patch("cifar_gradcam.engine.recipes.train_run", side_effect=torch.OutOfMemoryError("too much")):
        equal(run("train"), (1, "cifar_gradcam train: too much\n"))  # no fault of the program


# Training and explaining

def test_explain_counts_anew_and_writes(first):
    metrics = json.loads(Path(first, "metrics.json").read_text())
    printed = succeeds("explain", first, "--mistakes", "3", "--root", "generated")
    assert f"Test accuracy {metrics['test_accuracy']:.2f} %" in printed
    for name in ("misclassified.png", "gradcam.png"):
        assert f"{first}/{name}" in printed and Image.open(f"{first}/{name}").width > 300
    fails("device must be", "train", "--device", "tpu", "--out", "runs/other", "--data", "synthetic")


def test_the_same_run_returns_at_once_and_another_is_refused(first):
    recipe, model = load_run(first)  # a string, as a reader of the book types it
    equal((recipe.epochs, recipe.limit, recipe.max_lr, model.training), (2, 40, 0.05, False))
    assert "after 2 epochs of 40" in succeeds("train", "--resume", "--out", first, "--root", "generated")
    fails("holds no run", "train", "--resume", "--out", "runs/none")
    fails("width is 8 there, 64 was asked for", "train", "--data", "synthetic", "--out", first)


def test_what_is_measured_and_where_it_goes(first):
    commands = {"maps": MEASURE, "facts": "cifar_gradcam.lab.facts.facts_command",
                "families": "cifar_gradcam.lab.families.families_command"}
    files = {"maps": "faithfulness.json", "facts": "facts.json", "families": "families.json"}
    for only, words in (None, "--quick --images 9 --out runs/new/aside"), ("facts", ""), ("families", "--quick"):
        with contextlib.ExitStack() as stack:
            mocks = {part: stack.enter_context(mock.patch(name, return_value=0)) for part, name in commands.items()}
            succeeds("faithfulness", first, "--root", "generated", *words.split(), *(["--only", only] if only else []))
        equal([part for part, mocked in mocks.items() if mocked.called], [only] if only else [*commands])
        for part, mocked in mocks.items():
            if not mocked.called: continue
            (network, data, out, quick, images, source), options = mocked.call_args
            equal((len(data), source, options), (40, "synthetic", {}))
            equal((out, quick, images), (Path(first if only else "runs/new/aside", files[part]), "--quick" in words, None if only else 9))


def test_one_image(first):
    printed = succeeds("explain", first, "--root", "generated", "--image", "7", "--out", "one")
    assert "image_7.png" in printed and Image.open("one/image_7.png").width > 300
    report = json.loads(Path("one/image_7.json").read_text())
    equal(report["index"], 7); assert report["sentence"] in printed
    fails("index must be from 0 to 39, got 4000", "explain", first, "--root", "generated", "--image", "4000")


def test_maps_by_another_method(first):
    Path("shapley").mkdir(); Image.new("RGB", (40, 40), "teal").save("shapley/sea.png")
    with mock.patch.object(gradcam, "explain", wraps=gradcam.explain) as explain:
        succeeds("explain", first, *"--root generated --mistakes 2 --method shapley --out shapley".split())
    equal({call.args[3] for call in explain.call_args_list}, {"shapley"})
    assert Image.open("shapley/gradcam.png").width > 300
    with mock.patch("cifar_gradcam.engine.pictures.explain", wraps=gradcam.explain) as explain:
        printed = succeeds("explain", first, *"--images shapley/sea.png --method shapley --out shapley".split())
    equal(explain.call_args.args[3], "shapley"); assert "sea-map.png" in printed
    fails("--method must be one of gradcam, gradcam++, hirescam, layercam, eigencam, scorecam, ablationcam, shapley, got 'shaply'",
          "explain", first, "--root", "generated", "--method", "shaply")
    fails("--method goes without --image", "explain", first, *"--root generated --method shapley --image 3".split())
    fails("give either --image or --images", "explain", first, *"--image 3 --images shapley/sea.png".split())


def test_pictures_of_ones_own(first):
    Path("own").mkdir(); Image.new("RGB", (90, 60), "teal").save("own/sea.png")
    Path("own/notes.png").write_text("no picture")
    printed = fails("knows 10 classes only", "explain", first, "--images", "own", "--out", "maps")
    assert "notes.png: skipped, it is not a picture" in printed  # so the status is 1
    assert Image.open("maps/sea-map.png").width >= 90 and Path("maps/pictures.csv").is_file()


def test_weights_as_a_training_script_saves_them(first, undrawn):
    recipe, model = load_run(Path(first))
    torch.save({"epoch": 3, "net": {f"module.{k}": v for k, v in model.state_dict().items()}}, "foreign.pth")
    words = "--data synthetic --root generated --mistakes 1 --out foreign".split()
    assert "Test accuracy" in succeeds("explain", "--weights", "foreign.pth", *words)
    assert Path("foreign/gradcam.png").is_file()
    Path("notes.pth").write_text("no weights")
    torch.save(ResNet18(7, width=8).state_dict(), "seven.pth")
    for words, wanted in (([], "name either a run, or a file of weights with --weights FILE"),
                          ([first, "--weights", "foreign.pth"], "name either a run, or a file of weights"),
                          (["--weights", "notes.pth"], "notes.pth cannot be read"),
                          (["--weights", "seven.pth"], "seven.pth has 7 classes; CIFAR-10 has 10")):
        fails(wanted, "explain", *words)


def weights_of(state, words, *more):
    torch.save(state, "foreign.pth")
    return ["explain", "--weights", "foreign.pth", "--root", "generated", "--mistakes", "1", "--out", "foreign",
            *words.split(), *more]


def accuracy(printed): return float(re.search(r"accuracy (\S+) %", printed)[1])


def test_weights_wherever_they_lie(first, undrawn):
    state, data = load_run(Path(first))[1].state_dict(), "--data synthetic"
    wanted = accuracy(succeeds(*weights_of(state, data)))
    other = {k: v + v.abs().mean() if v.is_floating_point() else v for k, v in state.items()}
    lightning = {f"model.{k}": v for k, v in state.items()}
    printed = succeeds(*weights_of({"state_dict": lightning}, data))
    assert "foreign.pth: weights taken from 'state_dict.model'" in printed and accuracy(printed) == wanted
    both = {"model": other, "model_ema": {"n_averaged": torch.tensor(9), **{f"module.{k}": v for k, v in state.items()}}}
    fails("foreign.pth cannot", *weights_of(both, data, "--model", "ResNet34"))
    printed = fails("under 'model' and under 'model_ema.module', and they differ", *weights_of(both, data))
    assert "--weights-key" in printed and "foreign.pth" in printed
    equal(accuracy(succeeds(*weights_of(both, data, "--weights-key", "model_ema"))), wanted)
    fails("key must name a part of the file: model, model_ema; got 'ema'", *weights_of(both, data, "--weights-key", "ema"))


def test_the_colours_of_foreign_weights_are_named_or_said(first, undrawn):
    state, seen = load_run(Path(first))[1].state_dict(), []
    def watch(model, mistakes, *args, mean, std, **more):
        seen.append((mean, std)); return Figure((1, 1))
    asks = "assumed: mean and std (--normalise, or --mean and --std)."
    with mock.patch.object(gradcam, "draw_mistakes", watch):
        for words, constants in (
                ("", (CIFAR10_MEAN, CIFAR10_STD)), ("--normalise cifar10", (CIFAR10_MEAN, CIFAR10_STD)),
                ("--normalise half", ((0.5,) * 3, (0.5,) * 3)),
                ("--normalise imagenet", ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))),
                ("--normalise dataset", ((0.5003, 0.4999, 0.5), (0.1549, 0.1398, 0.1549))),
                ("--mean 0.1,0.2,1 --std 1,0.3,0.25", ((0.1, 0.2, 1.0), (1.0, 0.3, 0.25)))):
            printed = succeeds(*weights_of(state, "--data synthetic " + words))
            mean, std = (", ".join(map(str, part)).replace("1.0", "1") for part in constants)
            assert f"foreign.pth: ResNet18, 10 classes (CIFAR-10), images of 32 × 32, mean {mean}, std {std}.\n" in printed
            assert (asks in printed) == (not words)
            equal(seen.pop(), constants)
    with mock.patch("cifar_gradcam.engine.recipes.recipe_loaders", side_effect=ValueError("stop")) as loaders:
        fails("stop", *weights_of(state, "--data synthetic --normalise half"))
    equal(loaders.call_args.kwargs["info"].std, (0.5,) * 3)  # what is tested, too
    for words, wanted in (("--mean 0.5,0.5,0.5", "--mean and --std go together"),
                          ("--std 0.5,0.5,0.5", "--mean and --std go together"),
                          ("--mean 0,0,0 --std 1,0,1", "--std must be above 0, got (1.0, 0.0, 1.0)"),
                          ("--mean 0,0,0 --std 1,1,1 --normalise half", "give either --normalise, or --mean and --std")):
        fails(wanted, *weights_of(state, "--data synthetic " + words))
    Path("sea").mkdir(exist_ok=True); Image.new("RGB", (32, 32), "teal").save("sea/sea.png")
    fails("--normalise dataset needs the data: name it with --data", *weights_of(state, "--normalise dataset --images sea"))
    for option, value in (("--normalise", "half"), ("--weights-key", "net"), ("--model", "ResNet20"), ("--size", "32"),
                          ("--std", "1,1,1")):
        fails(f"{option} goes with --weights; a run knows its own", "explain", first, option, value)
        fails(f"{option} goes with --weights; a run knows its own", "explain", "reference", option, value)


@pytest.mark.parametrize("text", ["1,2,3", "0.5", "0.5,0.5", "a,b,c", "nan,0,0", "-0.1,0,0", "123.7,116.3,103.5", ""])
def test_three_numbers(text, capsys):
    for option in ("--mean", "--std"):
        with pytest.raises(SystemExit): read_arguments(["explain", "--weights", "a.pth", f"{option}={text}"])
        assert "must be three numbers from 0 to 1, such as 0.5,0.5,0.5, got" in capsys.readouterr().err


def test_networks_of_foreign_weights(first, grain, undrawn, monkeypatch):
    monkeypatch.setattr(sys, "path", [part for part in sys.path if part])
    torch.manual_seed(0)
    Path("cli_nets.py").write_text("from cifar_gradcam.resnet import ResNet18\ndef make(): return ResNet18(width=8)\n")
    Path("seas").mkdir(exist_ok=True); Image.new("RGB", (90, 60), "teal").save("seas/sea.png")
    state = load_run(Path(first))[1].state_dict()
    wanted = accuracy(succeeds(*weights_of(state, "--data synthetic")))
    printed = succeeds(*weights_of(state, "--data synthetic --model cli_nets:make"))
    assert accuracy(printed) == wanted and "assumed: mean and std (" in printed and "size (--size)" in printed
    Path("cli_two.py").write_text("import cli_nets, torch\nclass Two(torch.nn.Module):\n    def __init__(self): super().__init__(); self.net = cli_nets.make()\n"
                                  "    def forward(self, x): return self.net(x), -self.net(x)\n")
    fails("foreign.pth: the model must return logits of shape", *weights_of({f"net.{name}": value for name, value in state.items()}, "--data synthetic --model cli_two:Two"))
    twin = MODELS["ResNet20"](width=8).state_dict()
    fails("foreign.pth: the weights fit ResNet20 and PlainNet20", *weights_of(twin, "--data synthetic"))
    succeeds(*weights_of(twin, "--data synthetic --model ResNet20"))
    succeeds(*weights_of(cifar_resnet(20).state_dict(), "--data synthetic"))
    printed = succeeds(*weights_of(cifar_resnet(20, 7).state_dict(), "--images seas"))
    assert "7 classes (numbers)" in printed and "class names (--data)" in printed
    printed = succeeds(*weights_of(cifar_resnet(20, 3).state_dict(), "--images seas --data grain"))
    assert "oats, rye, wheat" in printed and "class names (--data)" not in printed
    fails("has 7 classes", *weights_of(cifar_resnet(20, 7).state_dict(), "--images seas --data grain"))


def test_torchvisions_weights_and_their_size(grain, undrawn):
    torch.manual_seed(0)
    Path("seas").mkdir(exist_ok=True); Image.new("RGB", (90, 60), "teal").save("seas/sea.png")
    official = torchvision.models.resnet18().state_dict()
    with mock.patch("cifar_gradcam.engine.pictures.to_network", wraps=pictures.to_network) as shown:
        printed = succeeds(*weights_of(official, "--images seas"))
    equal(shown.call_args.args[1:], (224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    assert ("torchvision.models:resnet18, 1000 classes (ImageNet), images of 224 × 224, mean 0.485, 0.456, 0.406"
            in printed and "tench, goldfish" in printed and "mean and std (--normalise" in printed)
    fails("has 1000 classes; CIFAR-10 has 10: name other data with --data, or", *weights_of(official, "--data synthetic"))
    tuned = torchvision.models.resnet18(num_classes=10).state_dict()
    for words in ("--data synthetic", "--model torchvision.models:resnet18 --images seas"):
        fails("give --size, for example 32 or 224", *weights_of(tuned, words))
    printed = succeeds(*weights_of(tuned, "--data synthetic --size 64"))
    assert "32 × 32, are enlarged to 64 × 64" in printed
    assert "enlarged" not in succeeds(*weights_of(tuned, "--images seas --size 64"))
    three = torchvision.models.resnet18(num_classes=3).state_dict()
    fails("explain the files themselves with --images", *weights_of(three, "--data grain --size 64"))


@pytest.mark.parametrize("extra", [[], ["--average", "0.9"], ["--whiten"]])
def test_a_run_that_goes_on_is_explained_as_it_was_tested(extra, undrawn):
    out = "runs/goes-on" + "".join(extra)
    status, printed = run("train", *MADE, *extra, "--epochs", "3", "--out", out, stop=2)
    equal(status, 130); assert "2 of 3 epochs are in" in printed
    tested = History.load(Path(out) / "history.csv").rows[-1]["test_accuracy"]
    printed = succeeds("explain", out, "--root", "generated", "--mistakes", "2")
    assert f"{out} is not finished: this is its network after 2 of 3 epochs" in printed
    shown = float(printed.partition("Test accuracy ")[2].split()[0])
    close(shown, tested, eps=0.02)  # of 10,000 in hundredths of a per cent


# Folders of pictures, and other data

def test_a_folder_keeps_its_names_and_colours(grain):
    equal(load_recipe(Path(grain)).data, str(Path("grain").resolve()))
    recipe, model = load_run(Path(grain))
    info = load_info(Path(grain))
    equal((info.classes, model.linear.out_features), (("oats", "rye", "wheat"), 3))
    assert max(info.mean) < 0.3  # these pictures are dark
    with mock.patch.object(gradcam, "draw_mistakes", wraps=gradcam.draw_mistakes) as drawn:
        printed = succeeds("explain", grain, "--mistakes", "2")
    (_, mistakes, names, *_), colours = drawn.call_args
    equal((names, colours["mean"], colours["std"]), info)
    named = printed.partition("are drawn:\n")[2].split()[:2]
    for path, label in zip(named, mistakes.labels): equal(Path(path).parent.name, names[label])
    assert f"{json.loads(Path(grain, 'metrics.json').read_text())['test_accuracy']:.2f} %" in printed


def test_a_folders_network_in_each_command(grain, undrawn):
    info = load_info(Path(grain))
    succeeds("explain", grain, "--image", "3", "--out", "grain3")
    report = json.loads(Path("grain3/image_3.json").read_text())
    assert {report["predicted"], report["true"]} <= set(info.classes) and np.max(report["image"]) < 128
    printed = succeeds("explain", grain, "--images", "grain/test/rye", "--out", "grain3")
    assert "knows 3 classes only (oats, rye, wheat)" in printed
    with mock.patch(MEASURE, return_value=0) as measure: succeeds("faithfulness", grain, "--quick", "--only", "maps")
    equal((measure.call_args.args[1].info, measure.call_args.args[5]),
          (info, load_recipe(Path(grain)).data))
    torch.save(load_run(Path(grain))[1].state_dict(), "grain.pth")
    printed = succeeds("explain", "--weights", "grain.pth", "--data", "grain", "--out", "aside")
    assert f"{Path('grain').resolve()}/test/" in printed


def test_pictures_in_class_folders(grain):
    printed = succeeds("explain", grain, "--images", "grain/test", "--out", "val")
    tested = json.loads(Path(grain, "metrics.json").read_text())["test_accuracy"]
    right = round(24 * tested / 100)
    assert f"Accuracy {100 * right / 24:.2f} %: {right} of 24 pictures in class folders are right" in printed
    low, high = wilson_interval(right, 24)
    assert f"95 % interval of the accuracy: {100 * low:.1f} to {100 * high:.1f} %" in printed
    equal(len(re.findall(r"^  grain/test/.*: (\w+), its folder says (?!\1)", printed, re.M)), 24 - right)
    assert Path("val/pictures.csv").read_text("utf-8").splitlines()[0].split(",")[3] == "true_class"
    save = Path("mixed/barley/0.png"); save.parent.mkdir(parents=True); Image.new("RGB", (9, 9)).save(save)
    printed = fails("no class has this name: barley", "explain", grain, "--images", "mixed", "--out", "val2")
    assert "paths hold no picture: mixed" in printed and not Path("val2/pictures.csv").exists()
    Path("mixed/rye").mkdir(); Image.new("RGB", (9, 9)).save("mixed/rye/0.png")
    printed = succeeds("explain", grain, "--images", "mixed", "--out", "val2")
    assert "no class has this name: barley" in printed and "of 1 pictures in class folders" in printed
    assert "interval" not in succeeds("explain", grain, "--images", "grain/test/rye", "--out", "val2")
    Image.new("RGB", (9, 9)).save("mixed/rye/a\nb.png")
    assert "  val3/a\\nb-map.png\n" in succeeds("explain", grain, "--images", "mixed", "--out", "val3")


def test_other_data_of_known_classes(first, grain, undrawn):
    write_folder("more", 8, ("rye", "wheat"))
    assert "of 8 images are right" in succeeds("explain", grain, "--data", "more", "--mistakes", "1")
    torch.save(ResNet18(7, width=8).state_dict(), "of_seven.pth")
    for words, wanted in (([grain, "--data", "synthetic"], "has other classes than the network"),
                          ([first, "--data", "grain"], "classes that are not known: oats, rye, whe"),
                          (["--weights", "of_seven.pth", "--data", "grain"], "has 7 classes; ")):
        fails(wanted, "explain", *words, "--root", "generated")


def test_fine_tuned_from_the_reference_and_explained(undrawn):
    "Another number of classes: refused before, with `it has 10 classes, the network 2`."
    write_folder("fruit", 4, ("fig", "plum"))
    tuned = "train --recipe finetune --data fruit --epochs 1 --precision float32 --out runs/tuned".split()
    printed = succeeds(*tuned, "--freeze", "layer4")
    assert "all of reference but the last layer, which is new: 2 classes instead of 10" in printed
    assert "frozen: all up to layer4; trained: 1,026 of 11,169,858 parameters" in printed
    reference, network = load_run(reference_folder())[1], load_run(Path("runs/tuned"))[1]
    for name, value in reference.state_dict().items():
        if "linear" not in name: assert torch.equal(value, network.state_dict()[name]), name
    equal(load_info(Path("runs/tuned")), DatasetInfo(("fig", "plum")))  # images normalised as for the reference
    assert "of 4 images are right" in succeeds("explain", "runs/tuned", "--mistakes", "1")
    fails("freeze='stem' needs weights to start from", *tuned, "--weights", "none", "--freeze", "stem")
    with pytest.raises(SystemExit): read_arguments(["train", "--freeze", "layer5"])


def test_a_folder_that_has_gone(undrawn):
    write_folder("fruit", 6, ("fig", "plum"))
    succeeds("train", "--epochs", "1", *TINY, "--data", "fruit", "--out", "runs/fruit")
    os.rename("fruit", "gone")
    assert "--data" in fails("fruit is not there", "explain", "runs/fruit")
    succeeds("explain", "runs/fruit", "--data", "gone", "--mistakes", "1")


def test_the_stand_in_of_cifar100(undrawn):
    hundred = ["--epochs", "1", *TINY, "--data", "synthetic-CIFAR100", "--limit", "150", "--root", "generated"]
    succeeds("train", *hundred, "--out", "runs/hundred")
    printed = succeeds("explain", "runs/hundred", "--root", "generated", "--mistakes", "1")
    assert "of 150 generated images" in printed


# Each advice is followed

def test_without_cifar10(offline):
    Path("empty").mkdir()
    assert "--data synthetic" in fails("no network", "train", "--root", "empty", "--out", "runs/nowhere")


@pytest.mark.parametrize("variable, words", [("", ["--data", "synthetic"]), ("synthetic", [])])
def test_generated_images_by_the_option_and_by_the_variable(variable, words, offline, monkeypatch, undrawn):
    out = f"runs/{variable or 'by-option'}"
    tiny = ["--epochs", "1", "--limit", "40", "--root", "generated", *TINY]
    fails("--data synthetic", "train", *tiny, "--out", out)
    with monkeypatch.context() as patch:  # in the same folder
        patch.setenv("CIFAR_GRADCAM_DATA", variable)
        assert "on 40 generated images" in succeeds("train", *tiny, "--out", out, *words)
    config = Path(out, "config.json")  # as if trained on the real ones
    config.write_text(json.dumps(json.loads(config.read_text()) | {"data": "real"}))
    fails("--data synthetic", "explain", out, "--root", "generated")
    monkeypatch.setenv("CIFAR_GRADCAM_DATA", variable)
    printed = succeeds("explain", out, "--root", "generated", "--mistakes", "1", *words)
    assert "of 40 generated images are right" in printed
    with mock.patch(MEASURE, return_value=0) as measure:
        succeeds("faithfulness", out, "--root", "generated", "--only", "maps", *words)
    equal(measure.call_args.args[5], "synthetic")


def test_a_run_too_fast_cut_resumed_and_longer(undrawn):
    out = "runs/a b"
    fails("rate may be too high", "train", *MADE, "--epochs", "2", "--max-lr", "1e30", "--out", out)
    status, printed = run("train", *MADE, "--epochs", "2", "--out", out, stop=1)
    equal(status, 130); assert "1 of 2 epochs" in printed
    words = advised(printed)
    equal(words, ["--resume", "--out", "runs/a b", "--root", "generated"])
    printed = fails("1 of 2 epochs", "faithfulness", out, "--root", "generated", "--quick")
    equal(advised(printed), words)
    assert "1 of 2 epochs" in succeeds("explain", out, "--root", "generated", "--mistakes", "1")
    succeeds("train", *words); succeeds("explain", out, "--root", "generated")
    longer = [*MADE, "--epochs", "3"]
    printed = fails("epochs is 2 there, 3 was asked for", "train", *longer, "--out", out)
    weights = shlex.split(printed.partition("from --weights ")[2])[0]
    succeeds("train", *longer, "--weights", weights, "--out", "runs/longer")


def test_no_run_at_all_and_nowhere_to_write(first, undrawn):
    Path("cat.jpg").write_bytes(b"a picture"); Path("photos").mkdir(); Path("photos/a.jpg").touch()
    for named in ("runs/no ne", "cat.jpg", "photos"):
        printed = fails(f"{named} holds no run, as config.json is not there", "explain", named)
        assert "train --out" in printed and "or: reference" in printed
    with mock.patch.object(gradcam, "find_mistakes", side_effect=AssertionError("evaluated")):
        fails("with --out", "explain", first, "--root", "generated", "--out", "cat.jpg")
    succeeds("explain", first, "--root", "generated", "--out", "runs/a/new/one", "--mistakes", "1")
    assert Path("runs/a/new/one/gradcam.png").exists()


# The other commands

def test_temperature_of_a_run_that_held_images_out_and_of_others(first):
    for name in (first, "reference"):
        fails(f"{name} held no training images out", "calibrate", name, "--root", "generated")
    small = "--data synthetic --limit 100 --hold-out 30 --epochs 1 --root generated".split()
    succeeds("train", *small, *TINY, "--out", "runs/aside")
    printed = succeeds("calibrate", "runs/aside", "--root", "generated")
    assert "Temperature" in printed and "calibration.json" in printed
    result = json.loads(Path("runs/aside/calibration.json").read_text())
    equal((result["held_out_images"], result["test_images"]), (30, 100))
    equal(result["after"]["accuracy"], result["before"]["accuracy"])


def test_a_series_is_asked_for():
    with mock.patch("cifar_gradcam.lab.series.run_series", return_value=False) as asked:
        status, _ = run(*"experiment augmentation --runs a --records b --root generated".split())
    equal(status, 1)  # some are missing still
    equal(asked.call_args.args, ("augmentation", None, Path("a"), Path("b"), Path("generated")))
    for words, wanted in ((["experiment"], "name a series, or ask for --list"),
                          (["experiment", "luck"], "there is no series 'luck'; there are "),
                          (["experiment", "augmentation", "--only", "luck"], "has no run 'luck'")):
        fails(wanted, *words)


def test_a_series_is_made_and_one_run_again():
    tiny = Recipe(epochs=1, data="synthetic", limit=50, width=8, max_lr=0.05, pipeline="batched",
                  precision="float32")
    few = {"few": series.Series("Which of two?", {"one": tiny, "other": dataclasses.replace(tiny, pad=0)}, (0,))}
    with mock.patch.dict(series.series, few, clear=True):
        succeeds("experiment", "few", "--root", "generated")
        again = "experiment", "few", "--only", "one-seed0", "--root", "generated"
        assert "the very run that was recorded" in succeeds(*again)
        assert "% in the record; other answers to 0 of 50 images" in succeeds(*again, "--runs", "others")
        assert "few                 2     2           –  Which of two?" in succeeds("experiment", "--list")
    equal(sorted(p.name for p in Path("records/few").iterdir()), ["one-seed0", "other-seed0"])


def test_speed_is_measured_as_asked():
    with mock.patch("cifar_gradcam.lab.bench.bench_command", return_value=0) as bench:
        succeeds("bench", "--images", "300")
    equal(bench.call_args.args[0].images, 300)


# Records whose parts disagree, few images, streams that are not there

def edit_json(path, **changes): Path(path).write_text(json.dumps(json.loads(Path(path).read_text()) | changes))


@pytest.fixture
def edited(first, tmp_path):
    "A copy of the finished run, to be edited."
    return Path(shutil.copytree(first, tmp_path / "edited"))


def test_a_finished_run_whose_parts_disagree(edited, undrawn):
    again = ["train", "--resume", "--out", edited, "--root", "generated"]
    explaining = ["explain", edited, "--root", "generated", "--mistakes", "1"]
    assert "metrics.json" not in succeeds(*explaining)
    before = (edited / "metrics.json").read_text()
    edit_json(edited / "metrics.json", test_accuracy=99.9)
    fails("metrics.json says test_accuracy 99.9, which is no share of its 40 test_images", *again)
    assert f"{edited}/metrics.json says 99.90 % of 40 images" in succeeds(*explaining)
    (edited / "metrics.json").write_text(before)
    table = (edited / "history.csv").read_text()
    (edited / "history.csv").write_text("".join(table.splitlines(True)[:2]))
    fails("history.csv has 1 of 2 epochs, though the run has finished", *again)
    (edited / "history.csv").write_text(table)
    assert "Test accuracy" in succeeds(*again)
    edit_json(edited / "metrics.json", test_images=39)
    assert "of 39 images" in succeeds(*explaining)


def test_calibrate_on_few_images(first, edited):
    for name, wanted in ((first, "its 40 training images are too few: a temperature needs at least 100 held out"),
                         ("reference", "cifar_gradcam train --hold-out 5000 --out FOLDER")):
        fails(wanted, "calibrate", name, "--root", "generated")
    edit_json(edited / "metrics.json", train_images=450)
    fails("--hold-out 100 --out FOLDER", "calibrate", edited, "--root", "generated")
    few = "--data synthetic --limit 60 --hold-out 20 --epochs 1 --root generated".split()
    succeeds("train", *few, *TINY, "--out", "runs/scarce")
    printed = succeeds("calibrate", "runs/scarce", "--root", "generated")
    assert "20 held-out and 60 test images are few: use at least 100 for numbers that mean something" in printed
    with mock.patch("cifar_gradcam.mistakes.predictions.fit_temperature", return_value=0.05):
        assert "This is an end of the search" in succeeds("calibrate", "runs/scarce", "--root", "generated")


def test_few_steps_are_named_before_training():
    printed = succeeds("train", *MADE, "--epochs", "1", "--out", "runs/steps")
    said, _, table = printed.partition("epoch  ")
    succeeds("train", *MADE, "--epochs", "1", "--limit", "1", "--out", "runs/one")
    assert "Few steps (2): this network may learn little. For 200, take --epochs 100, or a --batch-size below 20; or start from trained weights: --recipe finetune." in said and table
    fails("at least 2 test images are needed, got 1", "faithfulness", "runs/one", "--root", "generated")
    fails("hold_out must be below the 40 training images, got 40", "train", *MADE, "--hold-out", "40", "--out", "runs/none")


CLOSED = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c"]


def test_streams_that_are_not_there(edited):
    code = ("import os, sys; from cifar_gradcam.__main__ import main\n"
            "os.environ['TQDM_DISABLE'] = '0'; words, codes = sys.argv[1:], []\n"
            "while words:\n"
            "    end = words.index(';'); sys.argv[1:], words = words[:end], words[end + 1:]\n"
            "    codes.append(main())\n"
            "    sys.stdout = sys.stderr = None\n"
            "open('codes', 'w').write(str([codes, [\n"
            "    os.path.samestat(os.fstat(n), os.stat(os.devnull)) for n in range(3)]]))")
    commands = (["train", *MADE, "--epochs", "1", "--out", "runs/silent"],
                ["explain", str(edited), "--root", "generated", "--mistakes", "1"], ["experiment", "--list"],
                ["explain", "nothing"])
    subprocess.run([*CLOSED, code, *(word for words in commands for word in (*words, ";"))], check=True)
    codes, files = eval(Path("codes").read_text())
    equal(codes, [0, 0, 0, 1]); equal(files, [True] * 3)  # no file of ours became a standard stream
    assert Path("runs/silent/metrics.json").exists() and (edited / "gradcam.png").exists()
    for words in (["--version"], ["--help"]):
        done = subprocess.run([*CLOSED[:2], 'exec "$@" >&-', *CLOSED[3:5], "-m", "cifar_gradcam", *words],
                              capture_output=True, text=True)
        equal((done.returncode, done.stderr), (0, ""))


class FullDisk(io.StringIO):
    "Takes text, and fails when it is to be written."
    def __init__(self, file):
        super().__init__()
        self.fileno = file.fileno

    def flush(self): raise OSError(28, "No space left on device")


def test_a_full_disk_behind_the_output(monkeypatch, tmp_path, capsys):
    with monkeypatch.context() as patch, open(tmp_path / "out", "w") as file:
        patch.setattr(sys, "stdout", FullDisk(file))
        equal(main(["--help"]), 1)
        assert os.path.samestat(os.fstat(file.fileno()), os.stat(os.devnull))  # so that the end of the process is quiet
    equal(capsys.readouterr().err, "cifar_gradcam: the output cannot be written: [Errno 28] No space left on device\n")


def test_a_reader_of_messages_who_has_gone(monkeypatch):
    reading, writing = os.pipe(); os.close(reading)
    with monkeypatch.context() as patch, open(writing, "w", buffering=1) as stream:
        patch.setattr(sys, "stderr", stream)
        equal(main(["experiment"]), 141)
