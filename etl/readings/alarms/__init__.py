"""Alarms: averages lines to alarms lines.

conditions  when an alarm is raised and ended, for one machine
fold        averages lines to alarms lines: live polling, start, replay, rebuild and verify share it
"""
