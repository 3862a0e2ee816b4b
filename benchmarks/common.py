"""What the benchmarks share: sentences, interleaved timing, percentiles, the machine, JSON."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

WARM_UP = 5  # rounds that do not count; a side is called with -5 to -1 in them

Times = list[tuple[float, float]]  # milliseconds of wall time, and of the process's CPU time

_WHO = "Ana|Bruno|Chidi|Dagny|Emeka|Farah|Goran|Hana|Ivo|Jonas|Keiko|Lena|Mateo|Nadia|Omar|Priya"
_DID = (
    "repaired|sold|painted|lost|borrowed|photographed|cleaned|hid|measured|ordered|carried|"
    "unpacked|sketched|replaced|polished|inherited|described|rented|weighed|wrapped"
)
_HOW = (
    "old|blue|wooden|heavy|broken|silver|foreign|tiny|noisy|woollen|hollow|spare|antique|leaking|"
    "folding|striped|rusty|electric|borrowed|handmade|square|frozen|yellow|expensive"
)
_WHAT = (
    "bicycle|violin|kettle|telescope|carpet|ladder|umbrella|radiator|notebook|guitar|aquarium|lamp|"
    "suitcase|camera|chessboard|toaster|wardrobe|compass|typewriter|blanket|mirror|tent|clock|boat|"
    "oven|statue|keyboard|scooter|curtain|freezer|hammock|piano"
)
_WHERE = (
    "Lisbon|Tromso|Nairobi|Lyon|Kyoto|Quito|Bergen|Tbilisi|Adelaide|Gdansk|Toledo|Hanoi|Oaxaca|Riga|"
    "Galway|Izmir|Seville|Dakar|Turin|Halifax|Bremen|Cusco|Leeds|Zagreb"
)
_WHEN = (
    "on Monday|last weekend|in early March|after the storm|before breakfast|during the holidays|"
    "two weeks ago|on a rainy Sunday|in the autumn|at midnight|after the concert|yesterday evening"
)
_WHY = (
    "the neighbour had complained about it|his sister needed money|the train was late again|"
    "a friend of hers had insisted|nobody else wanted to|the doctor advised more exercise|"
    "the garage was full of boxes|they were moving to the coast|the winter had been so long|"
    "her colleague collects such things|the landlord raised the rent|it reminded them of childhood|"
    "the children were bored|a letter from the bank arrived|the roof let in the rain|"
    "he was learning to cook|the museum asked for a gift|she had promised it to her aunt"
)
_PARTS = [part.split("|") for part in (_WHO, _DID, _HOW, _WHAT, _WHERE, _WHEN, _WHY)]


def sentences(count: int, *, seed: int) -> list[str]:
    """Return distinct sentences of about 23 word pieces, the same for the same seed."""
    chosen = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        who, did, how, what, where, when, why = (chosen.choice(part) for part in _PARTS)
        told = f"{chosen.choice(_PARTS[0])} told me that {who} {did}"
        found[f"{told} the {how} {what} from {where} {when}, because {why}."] = None
    return list(found)


def questions(count: int, *, seed: int) -> list[str]:
    """Return questions about what `sentences` tell, of about 18 word pieces."""
    chosen = random.Random(seed)
    rows = [[chosen.choice(part) for part in _PARTS] for _ in range(count)]
    return [
        f"What did {who} do with the {how} {what} from {where} {when}, and why?"
        for who, _, how, what, where, when, _ in rows
    ]


def interleaved(
    sides: Mapping[str, Callable[[int], object]], *, rounds: int, warm_up: int = WARM_UP
) -> dict[str, Times]:
    """Return the times of each side, called with 0, 1, ... in turns.

    Sides alternate, and swap places each round, so that a busy neighbour slows all alike.
    """
    times: dict[str, Times] = {name: [] for name in sides}
    gc.disable()
    try:
        for i in range(-warm_up, rounds):
            for name in list(sides)[:: 1 if i % 2 else -1]:
                wall, cpu = time.perf_counter(), time.process_time()
                sides[name](i)
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                if i >= 0:
                    times[name].append((1000 * wall, 1000 * cpu))
            gc.collect(0)
    finally:
        gc.enable()
    return times


def summary(times: Times) -> dict[str, float]:
    """Return the median and the 95th percentile of wall time, and the median of CPU time.

    On a machine that does other work too, CPU time is the steadier of the two; it has no waiting
    for the disk.
    """
    walls = sorted(wall for wall, _ in times)
    return {
        "p50": round(statistics.median(walls), 4),
        "p95": round(walls[int(0.95 * (len(walls) - 1))], 4),
        "cpu p50": round(statistics.median(cpu for _, cpu in times), 4),
    }


def ratio(
    found: Mapping[str, Mapping[str, float]], side: str, over: str, *, goal: float
) -> dict[str, float]:
    """Return one side's summary over another's, beside the goal for the median."""
    return {name: round(found[side][name] / found[over][name], 3) for name in found[side]} | {
        "goal": goal
    }


def machine() -> str:
    """Return the system, the processor, its cores and how busy they are, and Python's version."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{load}, "
        f"Python {platform.python_version()}"
    )


def options(description: str | None) -> argparse.Namespace:
    """Return the arguments of a benchmark; `json` is where to write the figures, or None."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there")
    return parser.parse_args()


def report(figures: Mapping[str, Any], path: Path | None) -> None:
    """Print the figures, a line each, and write them as JSON."""
    figures = {"machine": machine(), **figures}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            value = "   ".join(f"{key} {part}" for key, part in value.items())
        print(f"{name:34}  {value}")
    if path is not None:
        path.write_text(json.dumps(figures, indent=2) + "\n")
