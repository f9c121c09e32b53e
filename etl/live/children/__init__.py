"""What `etl run` leaves to child processes at low priority.

child        runs a child process
night        the nightly job: reports by a child process, retention
pages        pages on demand for the API
child_queue  one child at a time, and what was made last
content      what a child answered, in a temporary file
"""
