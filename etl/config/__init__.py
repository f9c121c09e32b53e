"""config.yaml: typed, frozen, strict.

    load       the typed model, and what is wrong with a file
    document   the YAML with the place of each value
    schema     its JSON Schema

Imported by `cli` and `live`.
"""
