"""Figures and names as text: what stands in the terminal's table, in the page and in a data set's card."""

from __future__ import annotations

import math

ABSENT = '–'
SOURCES = ('real', 'stimuli', 'control')
SECONDARY = {'sensitivity': 'sensitivity', 'specificity': 'specificity', 'f1': 'F1', 'auroc': 'AUROC'}


def at(tree, *path):
    """The value at a path of keys, or None where a step is missing or null, or the value is not finite."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def number(value, digits: int | str = 3) -> str:
    """With so many digits after the point, or 'g': as many as it takes."""
    form = 'g' if digits == 'g' else f'.{digits}f'
    return ABSENT if value is None or not math.isfinite(value) else format(value, form)


def percent(share) -> str:
    """A share of 1 in percent; a dash where it is absent."""
    return ABSENT if share is None or not math.isfinite(share) else f'{100 * share:.1f} %'


def with_found(attacker, kind: str) -> str:
    """How often an attacker is sure of somebody, and in brackets how often it finds somebody at 1 % of false alarms, where that is told."""
    found = at(attacker, f'{kind}_found_at_1pct')
    return percent(at(attacker, f'{kind}_confident')) + (f' ({percent(found)})' if found is not None else '')


def count(value) -> str:
    """A whole number, its thousands apart; a dash where it is absent."""
    return ABSENT if value is None or not math.isfinite(value) else f'{value:,.0f}'.replace(',', ' ')


def interval(bounds, digits: int = 3) -> str:
    """[low, high]; a dash where either is absent."""
    if bounds is None or any(b is None for b in bounds):
        return ABSENT
    return f'[{number(bounds[0], digits)}, {number(bounds[1], digits)}]'


def plain(name, longest: int = 60) -> str:
    """A user's name without control characters, which could steer a terminal, and not too long."""
    name = ''.join(c if c.isprintable() else ' ' for c in str(name)).strip()
    return name if len(name) <= longest else name[:longest - 1] + '…'


def listing(names, most: int = 10) -> str:
    """Names with commas; of more than `most`, the first ones and how many there are."""
    names = [plain(n) for n in names or ()]
    return ', '.join(names) if len(names) <= most else f'{", ".join(names[:most])}, … ({len(names)} in all)'


def notes(results) -> list[tuple[str, str]]:
    """Every note in the results, with where it stands: [(place, text)]; one that stands at several names of one place, once."""
    found = []

    def visit(tree, place):
        if isinstance(tree, dict):
            for key, value in tree.items():
                is_note = key in ('note', 'notes') or key.endswith('_note')
                if is_note and value:
                    here = place if key in ('note', 'notes') else (*place, key.removesuffix('_note'))
                    found.extend((' / '.join(here) or 'study', plain(v, 500)) for v in ([value] if isinstance(value, str) else value))
                elif not is_note:
                    visit(value, (*place, plain(key)))
        elif isinstance(tree, list | tuple):
            for index, value in enumerate(tree):
                visit(value, (*place, plain(at(value, 'name') or index)))

    visit(results, ())
    names: dict[tuple[str, str], list[str]] = {}
    for place, text in found:
        above, _, name = place.rpartition(' / ')
        names.setdefault((above, text), []).append(name)
    return [(f'{above} / {", ".join(own)}' if above else ', '.join(own), text) for (above, text), own in names.items()]
