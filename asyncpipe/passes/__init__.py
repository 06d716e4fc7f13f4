"""From a schedule to a table and a program, one file per pass."""
