"""`python -m asyncpipe`: the command line without an installed script."""

from __future__ import annotations

from asyncpipe.cli import main

if __name__ == "__main__":
    main()
