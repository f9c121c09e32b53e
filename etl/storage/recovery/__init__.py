"""The end of the folder made consistent, at start and after a disturbance.

start       recovery: repair, settings, averages derived again
repair      torn ends and damaged lines moved aside, leftovers removed
alarms      the alarms at a line, and their files derived again from there on
lookback    conditions that hold and are not raised yet, from the averages before a line
rewrite     the end of a day file made equal to derived lines
derivation  averages and alarms derived from the raw log, over days and settings
"""
