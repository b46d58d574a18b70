"""The version of the record's layout and of the code that decides its values.

Raise it when the file's layout changes, or when the same recipe would give other values (a new default of a
hyper-parameter, a corrected method): it is part of every recipe's digest, so old records are then made anew.
"""

SCHEMA = 2
