"""Run every test, every notebook and every check: `make test`. Ends with the line "N passed, N failed".

`make test-anywhere` runs tests and notebooks four times: as other processors would compute, with one thread, and as it is."""
import filecmp
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat

from readme import HERE, picture, PICTURE, readme, settings
from site_check import build, copy_of_sources, faults

NOTEBOOKS = sorted((HERE / "nbs").glob("*.ipynb"))


AT_A_TIME = min(2, os.cpu_count())  # notebooks: most keep one core busy


def command(*words, cwd=HERE, **variables):
    "Run a command; what it printed is the error where it fails."
    done = subprocess.run([str(w) for w in words], cwd=cwd, text=True, env=os.environ | variables,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode: raise AssertionError(f"{' '.join(map(str, words))} failed:\n{done.stdout[-6000:]}")
    return done.stdout


def use_available_data():
    "Say which images the tests use; without CIFAR-10, and only here, the synthetic ones take its place."
    from cifar_gradcam.engine.datasets import DataError, cifar10, data_source
    if data_source() == "real":
        try: cifar10()
        except (DataError, OSError) as fault:
            print(f"{fault}\nCIFAR-10 cannot be had here: THE TESTS USE SYNTHETIC DATA.\n")
            os.environ["CIFAR_GRADCAM_DATA"] = "synthetic"
            os.environ.pop("CIFAR10_ROOT", None)
    print(f"Data: {data_source()}")


def changed_files(folder, pattern):
    "Files that differ from, or are not in, this checkout."
    made = {path.relative_to(folder) for path in folder.glob(pattern) if "__pycache__" not in path.parts}
    return sorted(str(path) for path in made
                  if not (HERE / path).exists() or not filecmp.cmp(folder / path, HERE / path, shallow=False))


def check_export():
    "nbdev_export would change nothing."
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of_sources(Path(folder))
        for path in (copy / "cifar_gradcam").rglob("*.py"):
            if path.name not in ("__init__.py", "__main__.py"): path.unlink()  # so that a file no notebook exports shows too
        command("nbdev_export", cwd=copy)
        gone = [str(p.relative_to(HERE)) for p in (HERE / "cifar_gradcam").rglob("*.py")
                if not (copy / p.relative_to(HERE)).exists()]
        changed = changed_files(copy, "cifar_gradcam/**/*.py") + gone
    assert not changed, f"run nbdev_export and commit: {changed}"


def check_clean():
    "nbdev_clean would change no notebook."
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of_sources(Path(folder))
        command("nbdev_clean", cwd=copy)
        changed = changed_files(copy, "nbs/*.ipynb")
    assert not changed, f"run nbdev_clean and commit: {changed}"


def check_badges():
    "Each Colab badge opens its own notebook at the address in settings.ini."
    cfg = settings()
    wrong = []
    for path in NOTEBOOKS:
        text = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown")
        wanted = f"https://colab.research.google.com/github/{cfg['user']}/{cfg['repo']}/blob/{cfg['branch']}/nbs/{path.name}"
        links = re.findall(r"https://colab\.research\.google\.com/github/[^\s)]+", text)
        if links != [wanted] and path.name != "index.ipynb" or any(
                cfg["user"] + "/" + cfg["repo"] not in link for link in links):
            wrong.append(f"{path.name} has {links}, wanted {wanted}")
    assert not wrong, "\n".join(wrong)


def check_addresses():
    "The site's configuration and the notebooks name the repository of settings.ini."
    cfg = settings()
    own = f"{cfg['user']}/{cfg['repo']}"
    for path in [HERE / "_quarto.yml", HERE / "README.md", *NOTEBOOKS]:
        for found in re.findall(r"github\.com/([\w-]+/cifar_gradcam)", path.read_text(encoding="utf-8")):
            assert found == own, f"{path.name} names {found}, settings.ini {own}"


def check_readme():
    "README.md says and shows what the front page does."
    assert (HERE / "README.md").read_text(encoding="utf-8") == readme() and PICTURE.read_bytes() == picture(), f"run make readme and commit README.md and {PICTURE.name}"


def check_ruff():
    "ruff finds nothing in the package, the tests and the checks."
    command("ruff", "check", "cifar_gradcam", "tests", "checks")


def check_tests(**variables):
    "The tests without notebooks pass: `make quick`."
    said = command(sys.executable, "-m", "pytest", "-n", str(os.cpu_count()), HERE / "tests", **variables)
    print(said.rstrip().splitlines()[-1], flush=True)


def check_installed_needs():
    "What is installed fits together."
    command(sys.executable, "-m", "pip", "--disable-pip-version-check", "check")


def check_eleven_steps(**variables):
    "The tutorial's steps run as a script."
    command(sys.executable, HERE / "checks" / "eleven_steps.py", **variables)


def check_explorer():
    "The explorer of mistakes works in a real browser."
    said = command(sys.executable, HERE / "checks" / "explorer.py")
    if said.startswith("skipped"): return said.strip()


def check_picture_page(*words):
    "The page of one's own picture answers in a real browser as Python does."
    said = command(sys.executable, HERE / "checks" / "picture_page.py", *words)
    if said.startswith("skipped"): return said.strip()


def check_train_page(*words):
    "One can train in a real browser, and a step is torch's step."
    said = command(sys.executable, HERE / "checks" / "train_page.py", *words)
    if said.startswith("skipped"): return said.strip()


def check_tries(*words):
    "The figures to try in the chapters work in a real browser."
    said = command(sys.executable, HERE / "checks" / "try_page.py", *words)
    if said.startswith("skipped"): return said.splitlines()[0]


def check_site():
    "The site builds; no link is dead, nothing is wider than a phone, no other server is asked, axe finds nothing serious; its front page is light."
    if shutil.which("quarto") is None: return "skipped: quarto is not on PATH"
    with tempfile.TemporaryDirectory() as folder:
        site = build(Path(folder) / "site")
        found, skipped = faults(site)
        assert not found, "\n".join(found)
        for check in (check_picture_page, check_train_page, check_tries):
            if said := check("--site", site): skipped.append(said)
    if skipped: return f"partly skipped: {'; '.join(skipped)}"


def check_wheel():
    "A wheel holds every file of the package: modules, style, page, weights and records."
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of_sources(Path(folder))
        for name in ("MANIFEST.in", "LICENSE"): shutil.copy(HERE / name, copy)
        shutil.copytree(HERE / "cifar_gradcam" / "reference", copy / "cifar_gradcam" / "reference", dirs_exist_ok=True)
        command(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps",
                "--wheel-dir", copy / "dist", copy)
        packed = set(zipfile.ZipFile(next((copy / "dist").glob("*.whl"))).namelist())
    files = {str(path.relative_to(HERE)) for path in (HERE / "cifar_gradcam").rglob("*")
             if path.is_file() and "__pycache__" not in path.parts}
    assert not files - packed, f"not in the wheel: {sorted(files - packed)[:9]}"


def check_notebook(path, variables):
    "A notebook runs alone in an empty folder, as in Colab: it needs the package and nothing of the repository."
    def run():
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(path, folder)
            # Threads of two notebooks that wait for one another's cores take many times as long.
            threads = dict(OMP_NUM_THREADS=str(os.cpu_count() // AT_A_TIME))
            command("nbdev_test", "--path", path.name, "--n_workers", "0", cwd=folder, **threads | variables)
    run.__name__ = path.name
    return run


def outcome(check):
    "Whether a check passed (True), failed (False) or was skipped (None), and its line."
    start = time.perf_counter()
    try: note = check()
    except Exception as fault: return False, f"FAIL  {check.__name__}\n{fault}"
    mark, taken = "ok" if note is None else "--", time.perf_counter() - start
    return True if note is None else None, f"{mark}    {check.__name__} {note or ''} ({taken:.0f} s)"


def report(passed, line):
    print(line, flush=True)
    return passed


# What other machines would compute with: no bfloat16 and no wide vectors, no matrix tiles, one thread.
SETTINGS = {
    "like a processor with AVX2 only": dict(ONEDNN_MAX_CPU_ISA="AVX2", ATEN_CPU_CAPABILITY="avx2"),
    "like a processor with AVX-512 only": dict(ONEDNN_MAX_CPU_ISA="AVX512_CORE"),
    "with one thread": dict(OMP_NUM_THREADS="1"),
    "as it is": {},
}


def run_code(variables):
    "Tests, the eleven steps and all notebooks, with these environment variables; whether each passed."
    def check_tests_here(): return check_tests(**variables)
    def check_eleven_steps_here(): return check_eleven_steps(**variables)
    passed = [report(*outcome(check)) for check in (check_tests_here, check_eleven_steps_here)]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        checks = [check_notebook(path, variables) for path in NOTEBOOKS]
        return passed + [report(*found) for found in pool.map(outcome, checks)]


def main():
    use_available_data()
    checks = [check_export, check_clean, check_badges, check_addresses, check_readme, check_ruff,
              check_installed_needs, check_wheel, check_explorer, check_picture_page, check_train_page,
              check_tries, check_site]
    passed = [report(*outcome(check)) for check in checks]
    settings = SETTINGS if "--anywhere" in sys.argv else {"as it is": {}}
    for name, variables in settings.items():
        if len(settings) > 1: print(f"\nThe tests and notebooks {name}:", flush=True)
        passed += run_code(variables)
    if passed.count(None): print(f"{passed.count(None)} skipped")
    print(f"{passed.count(True)} passed, {passed.count(False)} failed")
    return int(False in passed)


if __name__ == "__main__":
    sys.exit(main())
