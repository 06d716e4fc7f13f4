"""Training a model under a schedule: `Trainer` for Python, `TrainingRun` behind `asyncpipe run`."""

from asyncpipe.training.run import TrainingRun
from asyncpipe.training.trainer import FitReport, Trainer

__all__ = ["FitReport", "Trainer", "TrainingRun"]
