"Chapter 12: recipes, folders, locks, histories, checkpoints and weights."
import copy
import dataclasses
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from types import SimpleNamespace

import pydantic
import pytest
import torch
from safetensors.torch import load_file
from tools import close, equal, refused
from torch import nn

from cifar_gradcam.data import DatasetInfo
from cifar_gradcam.engine.recipes import rounding_gap, train_run
from cifar_gradcam.engine.weights import load_foreign_weights
from cifar_gradcam.engine.runs import (
    Averaged, check_folder, Checkpoints, claim_folder, COLUMNS, differences, environment, EPOCH_FILES,
    faults_in_words, FolderIsBusy, History, hold_folder, load_checkpoint, load_info, load_recipe,
    load_reference, Recipe, reference_folder, reference_history, restore,
    save_checkpoint, save_weights, state_of, table_row, load_metrics)
from cifar_gradcam.lab.facts import facts_record
from cifar_gradcam.lab.maps import faithfulness_record
from cifar_gradcam.mistakes.predictions import reference_predictions


# ---- recipes

def fault_of(**wrong):
    with pytest.raises(pydantic.ValidationError) as error: Recipe(**wrong)
    return faults_in_words(error.value)


def test_a_recipe_is_a_frozen_value():
    equal(Recipe(**json.loads(json.dumps(asdict(Recipe())))), Recipe())
    equal(repr(Recipe(max_lr=1).max_lr), "1.0")  # an integer will do for a float
    equal([f.name for f in dataclasses.fields(Recipe)][:3], ["epochs", "batch_size", "optimizer"])
    equal(dataclasses.replace(Recipe(), seed=3).seed, 3)
    refused(lambda: setattr(Recipe(), "epochs", 3), exc=dataclasses.FrozenInstanceError)
    for name, about in Recipe.__pydantic_fields__.items(): assert about.description, name


@pytest.mark.parametrize("name, value, wanted", (
    ("epochs", 0, "greater than or equal to 1"), ("epochs", 2.5, "valid integer"),
    ("epochs", 2.0, "valid integer"), ("epochs", "3", "valid integer"),
    ("epochs", True, "valid integer"), ("max_lr", 0, "greater than 0"),
    ("max_lr", 0.0, "greater than 0"),
    ("max_lr", "0.1", "valid number"), ("max_lr", float("nan"), "finite number"),
    ("momentum", 1.0, "less than 1"), ("average", 1.0, "less than 1"),
    ("label_smoothing", 2, "less than or equal to 1"), ("pad", 32, "less than 32"),
    ("cutout", 33, "less than or equal to 32"), ("optimizer", "Lion", "'SGD', 'Muon'"),
    ("precision", "half", "'auto', 'float32' or 'bfloat16'"), ("nesterov", 1, "boolean"),
    ("data", "", "at least 1 character"), ("data", 3, "valid string"),
    ("colour", 3, "Unexpected keyword"), ("lookahead", None, "Unexpected keyword"),
    ("start_size", 20, "multiple of 8"), ("start_size", 32, "less than or equal to 24")))
def test_what_a_recipe_refuses(name, value, wanted):
    message = fault_of(**{name: value})
    assert message.startswith(f"{name}: ") and message.endswith(f", got {value!r}"), message
    assert wanted in message, message


def test_rules_of_several_fields_and_all_faults_at_once():
    equal(fault_of(flip="alternating"),
          "flip='alternating' needs pipeline='batched', got 'albumentations'")
    equal(fault_of(start_size=16), "start_size=16 needs pipeline='batched', got 'albumentations'")
    assert "; flip: " in fault_of(epochs=0, flip="q")


# ---- folders

@pytest.mark.parametrize("name", EPOCH_FILES)
def test_a_folder_that_holds_an_epoch_belongs_to_its_recipe(tmp_path, name):
    out = tmp_path / "run"
    claim_folder(out, Recipe(seed=1)); (out / name).touch()
    for claim in (check_folder, claim_folder, lambda out, recipe: train_run(recipe, out)):
        refused(lambda: claim(out, Recipe()), exc=FileExistsError,  # noqa: B023
                contains="holds another run: seed is 1 there, 0 was asked for; choose")
    refused(lambda: claim_folder(out, Recipe(seed=1, epochs=30)), exc=FileExistsError,
            contains="epochs is 20 there, 30 was asked for; its learning rate was planned")
    claim_folder(out, Recipe(seed=1))


def test_more_epochs_are_trained_from_the_weights_elsewhere(tmp_path):
    out = tmp_path / "my run"
    claim_folder(out, Recipe()); (out / "weights.safetensors").touch()
    refused(lambda: check_folder(out, Recipe(epochs=30)), exc=FileExistsError,
            contains=f"or start there from --weights '{out / 'weights.safetensors'}'")


def test_a_folder_without_an_epoch_is_left_to_the_next_recipe(tmp_path):
    out = tmp_path / "run"
    claim_folder(out, Recipe()); claim_folder(out, Recipe())
    (out / "range_test.json").touch(); claim_folder(out, Recipe())
    assert (out / "range_test.json").exists()
    check_folder(out, Recipe(seed=1)); equal(load_recipe(out), Recipe())
    claim_folder(out, Recipe(seed=1))  # without the other's range test
    equal([path.name for path in out.iterdir()], ["config.json"])
    equal(load_recipe(out), Recipe(seed=1))
    cut = tmp_path / "cut"; cut.mkdir()
    (cut / "config.json.partial").write_text("{")
    claim_folder(cut, Recipe()); equal(load_recipe(cut), Recipe())


def test_what_is_no_runs_folder_is_refused(tmp_path):
    refused(lambda: load_recipe(tmp_path), exc=FileNotFoundError, contains="holds no run")
    (tmp_path / "mine.txt").write_text("not a run")
    for out in (tmp_path, tmp_path / "mine.txt"):
        refused(lambda: claim_folder(out, Recipe()), contains="is not a run's folder")  # noqa: B023


@pytest.mark.parametrize("text", ("{", '{"colour": 3}', '{"epochs": 0}', "3", "[1]", "null"))
def test_a_recipe_that_cannot_be_read(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    refused(lambda: load_recipe(tmp_path), exc=ValueError, contains="is no recipe of this version")


def test_what_a_run_knows_of_its_data(tmp_path):
    out, mine = tmp_path / "run", DatasetInfo(("näh", "fern"), (0.1, 0.2, 1 / 3), (0.4, 0.5, 0.6))
    claim_folder(out, Recipe())
    equal([path.name for path in out.iterdir()], ["config.json"]); equal(load_info(out), DatasetInfo())
    own = Recipe(data="/own")
    claim_folder(out, own)
    refused(lambda: load_info(out), exc=FileNotFoundError, contains="what the classes of /own are")
    claim_folder(out, own, mine); equal(load_info(out), mine)
    claim_folder(out, own, mine._replace(classes=("a", "b")))  # no epoch is in
    claim_folder(out, own, mine); (out / "history.csv").touch(); claim_folder(out, own, mine)
    for name, other in (("classes", ("a", "b")), ("mean", (0.1, 0.2, 0.3)), ("std", (1, 1, 1))):
        refused(lambda: claim_folder(out, own, mine._replace(**{name: other})),  # noqa: B023
                exc=FileExistsError, contains="began with other data: ")
    equal(load_info(out), mine)
    for text in ("[1]", "{", '{"name": [1]}'):
        (out / "data.json").write_text(text)
        refused(lambda: load_info(out), contains="data.json holds no names and statistics")
    again = tmp_path / "again"
    claim_folder(again, own, mine); claim_folder(again, Recipe())
    assert not (again / "data.json").exists()
    equal(load_info(reference_folder()), DatasetInfo())


def test_differences_in_words():
    equal(differences(dict(epochs=3, lr=0.1), dict(epochs=4, lr=0.1, seed=0)),
          "epochs is 3 there, 4 was asked for; seed is None there, 0 was asked for")
    equal(differences(dict(epochs=3, lr=0.1), dict(epochs=3)), "")
    equal(differences(dict(epochs=3, lr=0.1), dict(epochs=3, lr=1), free=("lr",)), "")


def test_one_run_at_a_time_in_a_folder(tmp_path):
    def hold():
        with hold_folder(tmp_path): return "held"
    with ThreadPoolExecutor(1) as elsewhere:
        def refused_elsewhere():
            refused(lambda: elsewhere.submit(hold).result(), exc=FolderIsBusy,
                    contains=f"another run works in {tmp_path.resolve()}; wait")
        with hold_folder(tmp_path):
            equal(hold(), "held"); refused_elsewhere()  # also after the inner one
        equal(elsewhere.submit(hold).result(), "held")
        # In another process; when it is killed, the folder is free.
        program = ("import sys, time; from cifar_gradcam.engine.runs import hold_folder\n"
                   f"with hold_folder({str(tmp_path)!r}): print('held', flush=True); time.sleep(6000)")
        other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        equal(other.stdout.readline(), "held\n")
        refused(hold, exc=FolderIsBusy); refused_elsewhere()
        refused(lambda: train_run(Recipe(data="synthetic", limit=9), tmp_path, tmp_path),
                exc=OSError, contains="another run works in")
        other.kill(); other.wait(); other.stdout.close()
        equal(hold(), "held"); equal([path.name for path in tmp_path.iterdir() if path.suffix], [])


# ---- histories

def test_a_history_is_written_without_loss_and_prints_as_a_table(tmp_path):
    rows = [dict(zip(COLUMNS, (i, 0.1 / i, 2.5 / i, 10.0 * i, 2.0, 1 / 3, 60.0))) for i in (1, 2, 3)]
    for path in (tmp_path / "history.csv", str(tmp_path / "history.csv")):
        History(rows).save(path); equal(History.load(path).rows, rows)  # not a digit is lost
    equal([list(part) for part in History(rows)],
          [[2.5, 1.25, 2.5 / 3], [10.0, 20.0, 30.0], [2.0] * 3, [1 / 3] * 3])
    head, line, row = repr(History(rows[:1])).splitlines()
    equal((len(head), len(line), row), (len(row), len(row), table_row(rows[0])))
    equal(row.split()[:4], ["1", "1.0e-01", "2.5000", "10.00"])


# ---- checkpoints

def test_a_checkpoint_is_whole_or_an_error(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, dict(setup=dict(epochs=3, lr=0.1), weight=torch.arange(5.0)))
    equal(load_checkpoint(path)["weight"], torch.arange(5.0))
    with monkeypatch.context() as patch, pytest.raises(OSError, match="goes down"):
        def fails(*_): raise OSError("the machine goes down")
        patch.setattr(os, "replace", fails)
        save_checkpoint(path, dict(setup={}, weight=torch.zeros(5)))
    equal(load_checkpoint(path)["weight"], torch.arange(5.0))
    torch.save([1, 2], path)  # a good file of something else
    refused(lambda: load_checkpoint(path), contains="cannot be read")
    save_checkpoint(path, dict(setup={}, weight=torch.arange(5.0)))
    whole = path.read_bytes()
    for part in (0, 10, len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:part])
        refused(lambda: load_checkpoint(path), contains="cannot be read")


def run_of(model, **more):
    return SimpleNamespace(**dict(parts=dict(model=model), model=model, setup={}, history=History(),
                                  range_test=None) | more)


def test_a_state_holds_random_numbers_too():
    model = nn.Linear(2, 2)
    run = run_of(model, history=History([{"epoch": 1}]))
    kept, weight = copy.deepcopy(state_of(run)), model.weight.detach().clone()
    drawn = torch.rand(3); nn.init.zeros_(model.weight); run.history.rows.append({"epoch": 2})
    for _ in range(2):
        restore(run, kept)
        assert torch.equal(model.weight, weight) and torch.equal(torch.rand(3), drawn)
        equal(run.history.rows, [{"epoch": 1}])
        nn.init.zeros_(model.weight)


def test_without_a_folder_the_last_epoch_is_kept_as_a_copy():
    model, hook = nn.Linear(2, 2), Checkpoints()
    weight = model.weight.detach().clone()
    run = run_of(model)
    hook.prepare(run); hook.begin(run)
    nn.init.zeros_(model.weight); hook.interrupted(run, None)
    assert torch.equal(model.weight, weight)
    nn.init.ones_(model.weight); hook.after_epoch(run)
    nn.init.zeros_(model.weight); hook.interrupted(run, None)
    equal(model.weight.detach(), torch.ones(2, 2))


def test_an_average_stands_in_for_the_model():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    run = run_of(model, tested=model, history=History())
    hook = Averaged(0.5); hook.begin(run)
    hook.after_step(run)  # the first update copies
    nn.init.ones_(model.weight); hook.after_step(run)
    close(run.tested.weight.item(), 0.5, eps=1e-6); assert run.parts["average"].module is run.tested
    hook.end(run); equal(model.weight.item(), 1.0)  # no epoch is finished
    run.history.rows.append({}); hook.end(run); close(model.weight.item(), 0.5, eps=1e-6)


# ---- weights

def small_network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 10))


def test_weights_are_rounded_and_read_back(tmp_path):
    model, path = small_network(), tmp_path / "weights.safetensors"
    save_weights(model, path)
    other = load_foreign_weights(nn.Sequential(*small_network()), path)
    assert not other.training
    for name, value in model.state_dict().items():
        got = other.state_dict()[name]
        equal(got.dtype, value.dtype)
        assert torch.equal(got, value.half().float() if value.ndim > 1 else value), name
    whole = path.read_bytes()
    for part in (0, 50, len(whole) - 20):
        path.write_bytes(whole[:part])
        refused(lambda: load_foreign_weights(other, path), exc=ValueError, contains="cannot be read")
    path.write_bytes(whole)
    refused(lambda: load_foreign_weights(nn.Linear(2, 2), path), exc=ValueError, contains="of this network")


def test_wrapped_and_compiled_networks_write_plain_names(tmp_path):
    def compiled_parts():
        network = small_network()
        network[1] = torch.compile(network[1], backend="eager")
        return network
    path, other = tmp_path / "weights.safetensors", tmp_path / "model.pth"
    model = small_network(); names = [*model.state_dict()]
    model.register_buffer("places", torch.arange(3000).reshape(2, -1))  # no weights: not rounded
    model.places[0, 0] = 2051
    def check(filled): assert torch.equal(filled[3].weight, model[3].weight.half().float())
    def fresh(): return copy.deepcopy(model).apply(lambda m: getattr(m, "reset_parameters", int)())
    for wrapped in (nn.DataParallel(model), torch.compile(model, backend="eager"),
                    torch.compile(nn.DataParallel(model), backend="eager")):
        save_weights(wrapped, path)
        equal(load_file(path)["places"].flatten()[0].item(), 2051)
        check(load_foreign_weights(fresh(), path))
        check(load_foreign_weights(nn.DataParallel(fresh()), path).module)
    parts = compiled_parts(); parts[3] = model[3]
    save_weights(parts, path)
    equal(sorted(load_file(path)), sorted(names))
    check(load_foreign_weights(small_network(), path)); check(load_foreign_weights(compiled_parts(), path))
    # files of other make
    for content in (model.state_dict(), {"net": nn.DataParallel(model).state_dict(), "acc": 95.3},
                    {"state_dict": torch.compile(model).state_dict()}):
        torch.save(content, other)
        check(load_foreign_weights(fresh(), other).half().float())


def test_weights_that_do_not_fit_or_would_run_code(tmp_path):
    other = tmp_path / "model.pth"
    hundred = small_network(); hundred[3] = nn.Linear(4, 100)
    torch.save({"model": hundred.state_dict()}, other)
    for target in (small_network(), nn.DataParallel(small_network())):
        before = copy.deepcopy(target.state_dict())
        refused(lambda: load_foreign_weights(target, other), exc=ValueError,  # noqa: B023
                contains="weights of this network: it has 100 classes, the network 10")
        for name, value in target.state_dict().items(): assert torch.equal(value, before[name])
    torch.save(hundred, other)
    refused(lambda: load_foreign_weights(hundred, other), exc=ValueError, contains="run code")
    refused(lambda: load_foreign_weights(hundred, tmp_path / "none.pth"), exc=FileNotFoundError)


# ---- the reference and the environment

def test_the_reference_that_ships():
    reference = load_reference("cpu")
    assert not reference.training
    equal(sum(p.numel() for p in reference.parameters()), 11_173_962)
    equal(len(reference_history()), load_recipe(reference_folder()).epochs)
    # What is shown side by side: weights, answers, metrics and history are of one network.
    metrics, answers = json.loads((reference_folder() / "metrics.json").read_text()), reference_predictions()
    answers.check_model(reference)
    close(answers.accuracy, metrics["test_accuracy"], eps=1e-9)
    equal((len(answers), len(reference_history())), (metrics["test_images"], metrics["epochs"]))
    close(sum(reference_history().column("seconds")), metrics["seconds"], eps=1e-6)
    assert abs(reference_history().rows[-1]["test_accuracy"] - metrics["test_accuracy"]) <= rounding_gap(len(answers))
    for record in (faithfulness_record(), facts_record()): equal(record["settings"]["weights"], answers.weights)


def test_an_environment_names_no_paths():
    assert {"device", "threads", "torch", "python"} <= set(environment("cpu"))
    places = sys.prefix, os.getcwd(), os.path.expanduser("~")
    for value in environment("cpu").values(): assert not any(place in str(value) for place in places)


def test_weights_too_large_for_half_precision_stay_as_they_are(tmp_path):
    network = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    network[0].weight.data[2, 3] = -7e4
    save_weights(network, tmp_path / "weights.safetensors")
    kept = load_file(tmp_path / "weights.safetensors")
    assert torch.equal(kept["0.weight"], network[0].weight)
    equal(kept["1.weight"].dtype, torch.float16)


@pytest.mark.parametrize("text", ["epoch,lr\n1,0.1\n", ",".join(COLUMNS) + "\n1,0.1,2\n", ",".join(COLUMNS) + "\n" + "1," * 6 + "x"])
def test_a_damaged_history(tmp_path, text):
    (tmp_path / "history.csv").write_text(text)
    refused(lambda: History.load(tmp_path / "history.csv"), contains="history.csv must hold numbers under epoch, lr")


@pytest.mark.parametrize("text", ["[]", '{"test_accuracy": 3}', '{"test_acc', '{"test_accuracy": "x"}'])
def test_damaged_metrics(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    refused(lambda: load_metrics(tmp_path), contains="metrics.json holds no measurement of a run")
