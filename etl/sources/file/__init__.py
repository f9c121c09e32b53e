"""JSON files of this machine.

transport  polls of files, and JSON documents
following  a followed file: renamed, cut, rewritten, copied
"""
