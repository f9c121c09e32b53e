"""Charts and HTML pages from plain dicts; no I/O except for the templates, no clock.

    charts   a parameter over time, as SVG
    report   the page of a day's report, and the charts of the console

Imported by `cli` and `nightly`.
"""
