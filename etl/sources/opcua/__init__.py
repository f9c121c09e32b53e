"""OPC UA over asyncua: one thread with an event loop for all servers.

transport  starts, ends and delivers polls
server     a server: its session, kept and opened again
session    the connection to a server, from the handshake to the last answer
failures   what asyncua and the system raise, as failures of a poll
values     values of nodes as JSON, their quality and their time
"""
