"""Add finished runs to the records that ship, one zip a series: python checks/pack_records.py FOLDER…

A FOLDER is named as its series and holds a folder for each run, as `cifar_gradcam experiment` leaves them in records/SERIES.
The same runs give the same bytes, in any order and on any machine: sorted names, one date, nothing compressed (the wheel is).
"""
import io
import sys
import zipfile
from pathlib import Path

from cifar_gradcam.engine.files import write_whole
from cifar_gradcam.lab.series import RECORD_FILES, load_record

RECORDS = Path(__file__).parents[1] / "cifar_gradcam" / "records"


def zipped(files):
    "The bytes of a zip of `files`, a dict of bytes by name."
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name)  # of 1 January 1980
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # as Unix writes it, wherever we are
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def pack(folder, records=RECORDS):
    "Add the runs in a folder to the zip of their series; a ValueError where a run is there with other files."
    archive, packed = records / f"{folder.name}.zip", {}
    if archive.exists():
        with zipfile.ZipFile(archive) as shipped: packed = {name: shipped.read(name) for name in shipped.namelist()}
    for run in sorted(path.parent for path in folder.glob("*/metrics.json")):
        load_record(run)  # is it whole?
        files = {f"{run.name}/{path.name}": path.read_bytes() for path in run.iterdir() if path.name in RECORD_FILES}
        before = {name: content for name, content in packed.items() if name.startswith(f"{run.name}/")}
        if before and before != files: raise ValueError(f"{archive} holds another {run.name}; choose which one to keep")
        packed |= files
    if not packed: raise ValueError(f"{folder} holds no finished run, which would be a folder with a metrics.json")
    write_whole(archive, zipped(packed))
    return len({name.split("/")[0] for name in packed})


if __name__ == "__main__":
    if len(sys.argv) < 2: sys.exit(__doc__)
    for folder in map(Path, sys.argv[1:]): print(f"{folder.name}: {pack(folder)} runs are packed")
