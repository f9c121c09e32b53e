"""Moving averages: raw lines to averages lines.

window     the moving-average window
fold       raw lines to averages lines: live polling, start, replay, rebuild and verify share it
rewind     windows rebuilt from the newest readings
alive      how many machines of a source are alive: their number is bounded
no_number  parameters without a number: when that is a fault, and how to say it
"""
