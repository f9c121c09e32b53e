"""The end of the folder made consistent, at start and after a disturbance.

start       recovery: repair, settings, averages derived again
repair      torn ends and damaged lines moved aside, leftovers removed
derivation  averages derived from the raw log, over days and settings
"""
