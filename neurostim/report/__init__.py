"""Results as a table on the terminal and as one self-contained HTML file."""

from neurostim.report.drawing import COLOURS, CYCLE, charts, examples_chart
from neurostim.report.page import PICTURES, html, write
from neurostim.report.terminal import table
from neurostim.report.text import ABSENT, SECONDARY, SOURCES, at, count, interval, listing, notes, number, percent, plain, with_found
from neurostim.report.words import association_verdict, linkage_verdict, membership_verdict, neighbours_verdict, reading, strongest

__all__ = [
    'ABSENT', 'COLOURS', 'CYCLE', 'PICTURES', 'SECONDARY', 'SOURCES', 'association_verdict', 'at', 'charts', 'count',
    'examples_chart', 'html', 'interval', 'linkage_verdict', 'listing', 'membership_verdict', 'neighbours_verdict', 'notes', 'number',
    'percent', 'plain', 'reading', 'strongest', 'table', 'with_found', 'write']
