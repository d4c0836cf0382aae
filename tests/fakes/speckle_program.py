"""
A stand-in for the external speckle program, which fails in every way that the real one does.

`install` writes an mpirun and an executable into a directory. The executable is this very file: it
reads the three parameter files, the noise file and the bursts in its working directory, writes all
output files (the image is the mean of the burst) and prints ``Master done!`` after each burst. It
shares no code with the package.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from pathlib import Path

SUBFIELDS = (3, 2)
MPIRUN = """#!/bin/sh
# mpirun -np N PROGRAM
[ "$1" = "-np" ] || exit 64
NP=$2
export NP
shift 2
"$@"
status=$?
if [ $status -gt 128 ]; then
    echo "mpirun noticed that process rank 0 exited on signal $((status - 128))." >&2
fi
exit $status
"""


def install(directory: Path, **fault) -> Path:
    """
    Write the program into `directory`, made for it.

    ``kind``: exit, signal, stop, skip, truncate, no_subalpha, hang, garbage, library, memory, open, quiet,
    nan;
    ``burst``: index in the batch at which it happens; ``times``: runs in which it happens (all by
    default); ``status``: exit status or signal; ``delay``: seconds
    that each burst takes; ``stubborn``: the polite signal does not end a hang.
    """
    directory.mkdir(parents=True)
    (directory / "mpirun").write_text(MPIRUN)
    source = Path(__file__).read_text(encoding="utf-8")
    (directory / "entry").write_text(f"#!{sys.executable}\n{source}", encoding="utf-8")
    for name in ("mpirun", "entry"):
        (directory / name).chmod(0o755)
    (directory / "fault.json").write_text(json.dumps(fault))
    return directory


def calls(directory: Path) -> list[dict]:
    """How it was started, one entry a run."""
    log = directory / "calls.json"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def say(text: str) -> None:
    print(text, flush=True)


def fail(fault: dict, burst: int, base: str) -> None:
    kind = fault.get("kind")
    if kind == "exit":
        sys.exit(fault["status"])
    if kind == "signal":
        os.kill(os.getpid(), fault["status"])
        time.sleep(10)
    if kind == "stop":
        sys.exit(0)
    if kind == "memory":
        say("malloc failed: Cannot allocate memory")
        sys.exit(1)
    if kind == "open":
        say("stillsun-speckle: burst 001: no such burst")
        say("stillsun-speckle: 3 bursts not made, the first of them 001")
        sys.exit(fault["status"])
    if kind == "library":
        say("entry: error while loading shared libraries: libmpi.so.0: cannot open shared object file")
        sys.exit(127)
    if kind == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN if fault.get("stubborn") else signal.SIG_DFL)
        while True:
            say("still thinking")
            time.sleep(0.05)
    if kind == "garbage":
        sys.stdout.buffer.write(b"subfield \xff\xfe\xe9 r0 = 7\n")
        sys.stdout.flush()


def main() -> None:
    import numpy as np

    here = Path(sys.argv[0]).parent
    base, first, last, output, noise = Path("init_file.dat").read_text().splitlines()
    method = Path("init_method.dat").read_text().splitlines()
    props = Path("init_props.dat").read_text().splitlines()
    earlier = len(calls(here))
    with (here / "calls.json").open("a") as log:
        record = {
            "first": first,
            "last": last,
            "np": os.environ["NP"],
            "cwd": str(Path.cwd()),
            "path": os.environ["PATH"],
            "library_path": os.environ.get("LD_LIBRARY_PATH"),
            "program": sys.argv[0],
            "pid": os.getpid(),
            "base": base,
            "output": output,
            "method": method,
            "props": props,
        }
        log.write(json.dumps(record) + "\n")
    fault = json.loads((here / "fault.json").read_text())
    if earlier >= fault.get("times", 1 << 30):
        fault = {}
    assert len(method) == 10
    assert len(props) == 11
    columns, rows, frames, offset = (int(word) for word in props[:4])

    def read(name: str):
        assert Path(name).stat().st_size == offset + 4 * frames * rows * columns
        return np.fromfile(name, np.float32, offset=offset).reshape(frames, rows, columns)

    read(noise)
    for number in range(int(first), int(last) + 1):
        kind = fault.get("kind") if number == fault.get("burst", int(first)) else None
        if kind == "skip":
            continue
        if kind in ("exit", "signal", "stop", "memory", "open", "library", "hang", "garbage"):
            fail(fault, number, base)
        image = read(f"{base}.{number:03d}").mean(axis=0, dtype=np.float64).astype(np.float32)
        if kind == "nan":
            image[:10] = np.nan
        alpha = np.stack(
            [np.full(SUBFIELDS, 0.125), 0.1 + 0.01 * np.arange(math.prod(SUBFIELDS)).reshape(SUBFIELDS)]
        )
        files = {
            "ct": np.zeros((frames, 2, *SUBFIELDS)),
            "subrec": np.ones((*SUBFIELDS, 8, 8)),
            "subamp": np.ones((*SUBFIELDS, 8, 8)),
            "subrsr": np.ones((*SUBFIELDS, 5)),
            "subalpha": alpha,
            "final": image,
        }
        for suffix, array in files.items():
            if kind == "no_subalpha" and suffix == "subalpha":
                continue
            content = array.astype(np.float32).tobytes()
            if kind == "truncate" and suffix == "final":
                content = content[: len(content) // 2]
            Path(f"{output}.{number:03d}.{suffix}").write_bytes(content)
        time.sleep(fault.get("delay", 0.0))
        if fault.get("kind") != "quiet":
            say("Master done!")


if __name__ == "__main__":
    main()
