"""`asyncpipe tools fit`: what a model needs to run under a schedule, before its first run."""

from __future__ import annotations

from asyncpipe.tools.fit.examine import Asked, Examined
from asyncpipe.tools.fit.findings import Finding
from asyncpipe.tools.fit.fit import Fit, fit
from asyncpipe.tools.fit.subject import InputShape, Subject, read_subject

__all__ = ["Asked", "Examined", "Finding", "Fit", "InputShape", "Subject", "fit", "read_subject"]
