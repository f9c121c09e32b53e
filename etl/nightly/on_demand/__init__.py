"""Pages on demand: what a child process of a running `etl run` makes, and how it is ordered.

orders          what is ordered, and the head of the answer; it does not load numpy
answers         answers an order
machine_page    the page of a machine and day, the charts of its last hours
machine_lines   reads one machine out of a day's files
stored_reports  reads stored reports back: summaries, what one says of a machine
"""
