"""AP105 for costs that do not fit the stages."""

from __future__ import annotations

from asyncpipe.ir import Op
from asyncpipe.schedule import Costs, Schedule
from asyncpipe.schedule.source import Report

__all__ = ["check_costs"]


def check_costs(schedule: Schedule, stages: int, costs: Costs, report: Report) -> bool:
    """Whether every list of costs has one number per stage, and a round through the pipeline takes time at all."""
    where = schedule.where("costs")
    for op, times in costs.values:
        if len(times) not in (1, stages):
            message = f"costs.{op} has {len(times)} numbers for {stages} stages"
            report.error("AP105", message, where, "give one number, or one for each stage")
            return False
    if not any(costs.of(op, s) for op in (Op.F, Op.B, Op.I) for s in range(stages)):
        report.error("AP105", "all costs are zero: nothing takes any time", where, "give F or B a cost")
        return False
    return True
