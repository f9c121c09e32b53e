"""What takes each written batch, beside `live/standing`.

stdout     the lines on stdout
console    what the console shows: the last readings of every machine
alarms     the alarms that are raised now
no_number  machines that send no number for a parameter: an event and a log line
"""
