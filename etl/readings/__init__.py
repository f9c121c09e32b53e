"""Bytes to readings to moving averages; pure.

    records   the records that pass between the rooms
    answers   what a machine sends, decoded
    lines     lines of the log, encoded and decoded one at a time
    blocks    blocks of raw lines decoded into columns
    window    the moving-average window
    rewind    the windows found backwards from the newest readings
    fold      averages lines follow from raw lines: shared by everything
    days      local days
    clock     whether the wall clock runs as it should
    times     moments as RFC 3339 text
    text      text from outside, made safe to show

Imported by every room.
"""
