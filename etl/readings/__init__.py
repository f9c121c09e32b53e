"""Bytes to readings to moving averages; pure.

    records   the records that pass between the rooms
    answers   a body decoded into readings, and these into raw lines
    exact     JSON whose numbers keep their digits
    lines     the lines of our own log, and positions in followed files
    blocks    blocks of raw lines decoded into columns
    averages  the moving-average window, and the fold from raw lines to averages lines
    alarms    when alarms are raised and ended, and the fold from averages lines to alarms lines
    times     moments as RFC 3339
    days      local days
    clock     clock jumps
    digits    numbers for people: the digits that a sensor resolves, units
    text      text for people: printable characters, counts with their nouns

Imported by every room.
"""
