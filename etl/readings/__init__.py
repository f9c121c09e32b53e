"""Bytes to readings to moving averages; pure.

    records   the records that pass between the rooms
    answers   a body decoded into readings
    exact     JSON whose numbers keep their digits
    lines     the lines of our own log, and positions in followed files
    blocks    blocks of raw lines decoded into columns
    window    the moving-average window
    rewind    windows rebuilt from the newest readings
    no_number parameters without a number: when that is a fault, and how to say it
    alive     how many machines of a source are alive: their number is bounded
    fold      raw lines to averages lines: live polling, start, replay, rebuild and verify share it
    times     moments as RFC 3339
    days      local days
    clock     clock jumps
    text      text for people: printable characters, counts with their nouns

Imported by every room.
"""
