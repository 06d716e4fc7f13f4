"""`asyncpipe tools bench`: asyncpipe against the strongest plain PyTorch programs that we know, on this machine.

`rows` lists what is measured; each row runs in a process of its own (`suite`, `process`), where all contenders take
turns (`turns`) on one problem (`problem`) after each has shown that it trains (`guard`).
"""
