"""Bytes to readings to moving averages; pure.

    records   the records that pass between the rooms
    wire      bytes to records and back: answers, raw lines, averages lines
    window    the moving-average window
    rewind    the windows found backwards from the newest readings
    fold      averages lines follow from raw lines: shared by everything
    days      local days
    clock     whether the wall clock runs as it should
    text      text from outside, made safe to show

Imported by every room.
"""
