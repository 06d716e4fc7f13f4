"""`python -m asyncpipe.codes > docs/codes.md`."""

from __future__ import annotations

import sys

from asyncpipe.codes import document

if __name__ == "__main__":
    sys.stdout.write(document())
