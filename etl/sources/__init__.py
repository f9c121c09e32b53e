"""A source becomes answers.

    contract        what every poll over HTTP keeps to
    http_requests   HTTP over requests
    http_sockets    its deadlines
    http_curl       HTTP over libcurl
    files           JSON files
    workers         threads for polls

Imported by `live` only.
"""
