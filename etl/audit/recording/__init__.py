"""The files of a replay: recorded readings as raw lines.

files     JSON arrays, JSON lines and CSV, plain or .gz, as raw lines and the day of each
tables    CSV rows as JSON objects
epochs    timestamps that are numbers
"""
