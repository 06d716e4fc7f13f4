"""The report for programs: `asyncpipe.fit/1`."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from asyncpipe.runtime.backends import resolve_backend
from asyncpipe.tools.fit.examine import Examined
from asyncpipe.tools.fit.findings import Finding
from asyncpipe.tools.fit.fit import Fit
from asyncpipe.tools.fit.stages import Proposal

__all__ = ["document"]


def document(found: Fit, next_command: str) -> dict[str, Any]:
    """Sizes in bytes, times in seconds. Null: `seconds` of layers that were not measured; a `loss` that is not finite,
    or was not come to, as a finding then says."""
    examined = found.examined
    subject, asked, loss = examined.subject, examined.asked, examined.step.loss
    return {
        "schema": "asyncpipe.fit/1",
        "severity": found.severity,
        "model": subject.name,
        "schedule": asked.schedule.name,
        "backend": resolve_backend(asked.backend),
        "input": {
            "shape": list(subject.shape.shape),
            "dtype": str(subject.shape.dtype).removeprefix("torch."),
            "source": subject.source,
            "samples_run": len(examined.layers.sample),
            "stand_in": subject.stand_in or None,
        },
        "costs": asked.costs,
        "loss": loss if loss is not None and math.isfinite(loss) else None,
        "layers": [_layer(examined, number) for number in range(len(examined.layers.named))],
        "stages": [[part[0], part[-1]] for part in examined.cut],
        "proposals": [_proposal(one) for one in examined.proposals],
        "memory": [{**asdict(stage), "total": stage.total} for stage in examined.memory],
        "optimizer_state": dict(examined.optimizers),
        "findings": [_finding(finding) for finding in found.findings],
        "next": next_command,
    }


def _layer(found: Examined, number: int) -> dict[str, Any]:
    (name, layer), cost = found.layers.named[number], found.layers.costs[number]
    return {
        "name": name,
        "modules": [type(child).__name__ for child in layer],
        "parameters": cost.parameters,
        "parameter_bytes": cost.parameter_bytes,
        "forward_flops": cost.forward_flops,
        "operations": cost.operations,
        "output_bytes": cost.activation_bytes,
        "share": found.layers.seconds[number] / (sum(found.layers.seconds) or 1.0),
        "seconds": found.layers.seconds[number] if found.asked.costs == "measured" else None,
    }


def _proposal(one: Proposal) -> dict[str, Any]:
    return {
        "stages": len(one.parts),
        "layers": [[part[0], part[-1]] for part in one.parts],
        "shares": list(one.shares),
        "balance": one.balance,
        "handed_over": list(one.handed_over),
        "option": one.asked_by,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    places = [{**asdict(place), "line": place.line or None} for place in finding.places]
    return {
        "check": finding.check,
        "severity": finding.severity,
        "message": finding.message,
        "todo": finding.todo or None,
        "places": places,
    }
