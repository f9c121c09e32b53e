"""HTTP sources, over requests or over libcurl; both send the same and take the same for an answer.

client               opens the client that `transport` in the config names
request              what every transport sends: URL, headers, login, proxy
digest               the login by digest
answer               what every transport takes for an answer
requests_transport   HTTP over requests, the default; also `post` for notifications
requests_connection  its connections: the socket of the poll in flight
requests_response    its answers, read from the socket
curl_transport       HTTP over libcurl: one thread, for fleets
curl_transfer        a libcurl handle and what it received
"""
