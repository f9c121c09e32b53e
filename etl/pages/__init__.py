"""Charts and HTML pages from plain dicts; no I/O except for the templates, no clock.

    charts     a parameter over time, as SVG
    scale      the value axis of a chart, and words for what lies outside of it
    points     the readings of a chart as attributes, from which templates/values.js shows times and values
    report     the page of a day's report
    machine    the page of one machine and day, the charts of its last hours
    entries    what pages show of a machine's entry in a report
    links      links between pages
    rendering  a page with its style and script in one file
    headline   the sentences with which a page and a notification begin
    console    the charts of one machine in the console, the shared styles and script
    text       values as text

The series of a day are thinned by `nightly` before they are drawn, as that needs numpy, which the polling process never
loads. Imported by `cli`, `audit` and `nightly`.
"""
