"""Notifications: alarms, outages, the disk and reports in sentences, sent to the receivers of the config.

messages   what notifications say
notifier   sends them to every receiver, each from a thread of its own
receivers  a receiver over HTTP or through Apprise
"""
