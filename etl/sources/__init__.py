"""A source becomes answers.

    http_source     what every poll over HTTP keeps to
    http_requests   HTTP over requests
    http_sockets    its deadlines
    http_curl       HTTP over libcurl
    file_source     JSON files
    workers         threads for polls

Imported by `live` only.
"""
