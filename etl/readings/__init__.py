"""Answers become raw lines, and raw lines become averages lines; pure: no I/O.

    records   the records that pass between the rooms
    answers   parses an answer into readings, or rejects it
    lines     encodes and decodes raw lines, averages lines and events
    blocks    decodes many raw lines at once into columns
    window    the moving-average window
    rewind    rebuilds the windows from readings in reverse order
    fold      derives averages lines from raw lines; the only place that does
    days      local days
    times     times as text, and the limit of silence
    clock     detects jumps of the wall clock
    text      text from outside, made safe to show

Imported by every room.
"""
