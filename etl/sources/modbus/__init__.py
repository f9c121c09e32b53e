"""Modbus TCP: devices, and units behind a gateway. Imported when a source has `modbus`; needs pymodbus.

transport   one event loop for all connections
gateway     the units behind one address: their polls in turn, failures, the connection kept and made again
connection  one request at a time: frames, exceptions, late answers
registers   which registers are read together, and the reading that they make
"""
