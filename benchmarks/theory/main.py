"""Stable learning rates and stationary laws: what theory says of staleness, and what the real runtime does.

    OMP_NUM_THREADS=1 python benchmarks/theory/main.py --out benchmarks/results/theory.json

Takes some minutes on one core; writes the JSON, and beside it the picture of the double well as theory.svg. With
--smoke a few small cases, in seconds. The serial back end: every number comes again with the same --seed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import stable_rates
import stationary
import torch
from automatic import automatic
from plot import picture

from asyncpipe.tools.environment import describe_environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a few small cases, for tests")
    parser.add_argument("--updates", type=int, default=6000, help="of each double well")
    parser.add_argument("--copies", type=int, default=4096, help="of each double well")
    parser.add_argument("--seed", type=int, default=0, help="of the double wells")
    parser.add_argument("--epochs", type=int, default=8, help="on digits")
    parser.add_argument("--seeds", type=int, default=3, help="on digits")
    parser.add_argument("--out", type=Path, help="the JSON file; the picture lies beside it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        "claim": "benchmarks/theory/README.md",
        "settings": {"lr": stationary.LR, "sigma_sgd": stationary.SIGMA, **vars(options), "out": None},
        "environment": describe_environment(),
        "stable_rates": list(_rates(options.smoke)),
        "stationary": list(_laws(options)),
        "automatic": list(_trained(options)),
    }
    if options.out is not None:
        options.out.write_text(_json(found), "utf-8")
        options.out.with_suffix(".svg").write_text(picture(found["stationary"]), "utf-8")


def _json(found: dict[str, Any]) -> str:
    """Each row on a line of its own."""
    parts = []
    for key, value in found.items():
        rows = ",\n".join(map(json.dumps, value)) if isinstance(value, list) else None
        parts.append(f"{json.dumps(key)}: " + (json.dumps(value) if rows is None else f"[\n{rows}\n]"))
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _rates(smoke: bool) -> Any:
    for case in stable_rates.cases(smoke):
        row = stable_rates.measure(case, 250 if smoke else 400)
        worst = max((abs(value) for value in row["deviation"] if value is not None), default=0.0)
        shown = " ".join(f"{gain:.4g}" for gain in row["stated"])
        print(f"{case.name:<30} {case.options!s:<38} stable below {shown}, measured within {worst:.1%}", flush=True)
        yield row


def _laws(options: argparse.Namespace) -> Any:
    updates, copies = (200, 64) if options.smoke else (options.updates, options.copies)
    for case in stationary.rows(options.smoke):
        row = stationary.measure(case, updates, copies, options.seed)
        distances = " ".join(f"{name} {value:.4f}" for name, value in row["distance"].items())
        ratio = row["sigma_stale_over_sgd"]
        print(f"{case.name:<30} sigma_stale / sigma_sgd {ratio:.3f}, distance of the law: {distances}", flush=True)
        yield row


def _trained(options: argparse.Namespace) -> Any:
    epochs, seeds = (1, 1) if options.smoke else (options.epochs, options.seeds)
    for row in automatic(options.smoke, epochs, seeds):
        case = f"{row['schedule']}, momentum {row['momentum']}, lr {row['lr']}"
        print(f"{case:<40} accuracy {row['number']}, auto {row.get('auto', 'the same')}", flush=True)
        yield row


if __name__ == "__main__":
    main()
