"""The command line: one file for each command, and what they share.

`command.py` gives every command the options that all have, and turns what goes wrong into words
and an exit status (`outcome.py`); `screen.py` is the only one that prints.
"""
