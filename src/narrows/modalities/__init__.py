"""The kinds of data: one folder for each, with all that is particular to it."""
