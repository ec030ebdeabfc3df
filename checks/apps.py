"""What the pages that compute in the browser share: their files are made when the site is built, and one can make such a page alone."""
import gzip
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path

from readme import HERE

RUNTIME = "onnxruntime-web@1.30.0"
# All that the processor alone needs, as (name in the package, name on the site); packed, since not every server packs what it sends.
RUNTIME_FILES = (("ort.wasm.bundle.min.mjs", "ort.js"), ("ort-wasm-simd-threaded.wasm", "ort.wasm.gz"))
WEBGPU_FILES = (("ort.webgpu.bundle.min.mjs", "ort.gpu.js"), ("ort-wasm-simd-threaded.asyncify.wasm", "ort.gpu.wasm.gz"))  # the same with WebGPU
NEEDED = ("onnx", "onnxscript")  # torch writes graphs with both
ALONE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="data:,"><style>
:root {{ --book-line: #c9ced4; --book-box: #f5f6f8; --book-quiet: #55595e; }}
body {{ margin: 0 auto; padding: 16px; max-width: 860px; font: 16px/1.5 system-ui, sans-serif; color-scheme: light dark; background: Canvas; color: CanvasText; }}
@media (prefers-color-scheme: dark) {{ :root {{ --book-line: #4a4f55; --book-box: #24272a; --book-quiet: #b4b9be; }} body {{ background: #181a1b; color: #e4e6e8; }} }}
</style></head><body><script>
const dark = matchMedia("(prefers-color-scheme: dark)"), show = () => document.body.classList.toggle("quarto-dark", dark.matches);
show(); dark.addEventListener("change", show);
</script><main><h1>{title}</h1>
{markup}</main></body></html>
"""


def copy_scripts(folder, names="*"):
    "Scripts and styles of the site's own pages, where a page looks for them."
    (folder / "site").mkdir(parents=True, exist_ok=True)
    for path in (HERE / "nbs" / "site").glob(names):
        if path.suffix in (".js", ".css"): shutil.copy(path, folder / "site")


def write_alone(page, folder):
    "A page of nbs/*.qmd without the book around it."
    text = page.read_text(encoding="utf-8")
    copy_scripts(folder, f"{page.stem}*")
    copy_scripts(folder, "book.*")
    title, markup = re.search(r'^title: "(.*)"$', text, re.M)[1], "".join(re.findall(r"```\{=html\}\n(.*?)```", text, re.S))
    (folder / f"{page.stem}.html").write_text(ALONE.format(title=title, markup=markup), encoding="utf-8")


def write_parts(path, parts_of, needs=NEEDED, npm=True):
    "What `parts_of(folder)` makes, and a JSON file that tells the page what is there, or why nothing is. Returns the reason."
    from cifar_gradcam.engine.datasets import DataError
    path.parent.mkdir(parents=True, exist_ok=True)
    missing = [f"the package {name}" for name in needs if find_spec(name) is None] + ["npm"] * (npm and shutil.which("npm") is None)
    about = {"missing": f"needs {' and '.join(missing)}"}
    if not missing:
        try: about = parts_of(path.parent)
        except subprocess.CalledProcessError as fault:
            print(fault.stderr.decode(), file=sys.stderr)
            about = {"missing": f"needs {RUNTIME}, which npm could not bring"}
        except (DataError, OSError) as fault:
            print(fault, file=sys.stderr)
            about = {"missing": "needs CIFAR-10"}
    path.write_text(json.dumps(about, separators=(",", ":")), encoding="utf-8")
    return about.get("missing")


def bring_runtime(folder, files=RUNTIME_FILES):
    "Files of onnxruntime-web, kept in the user's cache; npm compares what it brings with the registry's checksum."
    from cifar_gradcam.engine.files import cache_folder
    cache = cache_folder() / "npm" / RUNTIME
    if not all((cache / here).exists() for _, here in files):
        with tempfile.TemporaryDirectory() as aside:
            subprocess.run([shutil.which("npm"), "pack", "--loglevel=error", "--pack-destination", aside, RUNTIME], check=True, capture_output=True)
            cache.mkdir(parents=True, exist_ok=True)
            with tarfile.open(next(Path(aside).glob("*.tgz"))) as archive:
                for name, here in files:
                    content = archive.extractfile(f"package/dist/{name}").read()
                    (cache / here).write_bytes(gzip.compress(content, mtime=0) if here.endswith(".gz") else content)
    for _, here in files: shutil.copy(cache / here, folder / here)


def tell(what, missing, folder, page):
    "What a command that made a page alone prints."
    if missing: print(f"skipped: {what} {missing}")
    else: print(f"Serve it with `python -m http.server --directory {folder}` and open http://localhost:8000/{page}")
