"""A disk of 4 MB that fills up: nothing acknowledged is lost, reads go on, deletes work.

The disk is a file system in RAM, mounted where only this program sees it; that takes Linux, and
the right to it or to a user namespace.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from hybrid_memory.errors import StoreFullError
from tests.reliability.outcome import Outcome
from tests.reliability.writers import SHARED, found, opened

DISK_BYTES = 4 * 2**20
ROUNDS = 10  # of a disk that fills up
DELETES = 50  # on each full disk


def run(scale: float = 1.0) -> Outcome:
    """Fill so many times ten disks; the trials are the calls on full ones.

    Raises:
        OSError: nothing can be mounted here.
    """
    rounds = max(1, round(ROUNDS * scale))
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "tests.reliability.full_disk", directory, str(rounds)]
        done = subprocess.run(
            [*_unshare(), *command],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    return Outcome(**json.loads(done.stdout.splitlines()[-1]))


def can_be_mounted() -> bool:
    """Tell whether this process may mount a file system of its own."""
    with tempfile.TemporaryDirectory() as directory:
        mount = ["mount", "-t", "tmpfs", "none", directory]
        try:
            return subprocess.run([*_unshare(), *mount], capture_output=True).returncode == 0
        except OSError:
            return False


def _unshare() -> list[str]:
    return ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"])]


@contextmanager
def _small_disk(directory: Path) -> Iterator[Path]:
    size = f"size={DISK_BYTES}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


def _fill(path: Path, rng: random.Random) -> tuple[int, list[str]]:
    """Fill a disk with a store, take away from it, and go on; return the trials and what failed."""
    wrong: list[str] = []
    trials = 0
    state: dict[str, str | None] = {}
    with opened(path / "store") as memory:
        ana = memory.scope(user_id=SHARED)
        number = refused = 0
        while refused < 20:
            number += 1
            id_, text = f"n{number}", f"n{number} " + rng.randbytes(rng.randint(20, 4000)).hex()
            try:
                ana.add(text, id=id_)
                state[f"{SHARED} {id_}"] = text
            except StoreFullError:
                refused += 1
        trials += refused
        # Somebody else takes the last of it too.
        with suppress(OSError), open(path / "other", "wb", buffering=0) as other:
            while True:
                other.write(bytes(2**12))
        for key in rng.sample(sorted(state), min(DELETES, len(state))):
            trials += 1
            id_ = key.split()[1]
            if ana.search(state[key] or "", k=1)[0].record.id != id_:
                wrong.append(f"{id_} is not found on a full disk")
            try:
                if not ana.delete(id_):
                    wrong.append(f"{id_} was lost")
            except StoreFullError:
                wrong.append(f"{id_} could not be deleted")
            else:
                del state[key]
        if found(memory) != state:
            wrong.append("not what was acknowledged")
        bob = memory.scope(user_id="bob")
        for call in (lambda: memory.purge(timeout_s=0.1), lambda: bob.erase(timeout_s=0.1)):
            trials += 1
            call()  # may be unfinished, and says so
        if found(memory) != state or not memory.check().is_clean:
            wrong.append("not what was acknowledged, after a purge")
    (path / "other").unlink()
    with opened(path / "store") as memory:
        trials += 1
        if found(memory) != state:
            wrong.append("not what was acknowledged, after opening again")
        purged = memory.purge()
        ana = memory.scope(user_id=SHARED)
        ana.add("There is space again.", id="again")
        if not purged.is_complete or not memory.check().is_clean:
            wrong.append("does not recover")
    return trials, wrong


def _main(directory: Path, rounds: int) -> None:
    began = time.monotonic()
    rng = random.Random(ROUNDS)
    trials = failures = 0
    for _ in range(rounds):
        with _small_disk(directory) as path:
            tried, wrong = _fill(path, rng)
            for name in path.iterdir():
                shutil.rmtree(name, ignore_errors=True)
        for sentence in wrong:
            print(sentence, file=sys.stderr)
        trials += tried
        failures += len(wrong)
    outcome = Outcome(
        what="full disk",
        trials=trials,
        failures=failures,
        seconds=time.monotonic() - began,
        details={"disks": rounds, "bytes": DISK_BYTES},
    )
    print(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        _main(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        print(run(*map(float, sys.argv[1:])))
