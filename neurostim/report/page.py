"""Results as one self-contained HTML file.

The figures come from `results.json` (a missing one is None, with a note beside it), the pictures from arrays of the run. The
file needs no network. Names of classes, channels and students come from users: they are escaped, and stripped of control characters.
"""

from __future__ import annotations

import pathlib

import jinja2
import markupsafe

from neurostim.files import write_whole
from neurostim.report.drawing import charts
from neurostim.report.text import SECONDARY, SOURCES, at, count, interval, listing, notes, number, percent, plain, with_found
from neurostim.report.words import (
    SAME_FOUND,
    SAME_SHARE,
    association_verdict,
    linkage_verdict,
    membership_verdict,
    neighbours_verdict,
    reading,
)

PICTURES = (
    'stimuli_x', 'stimuli_probabilities', 'real_x', 'real_y', 'confusion', 'curves', 'study_kind', 'sampling_rate_hz', 'channels', 'config',
)


def write(path, results: dict, pictures: dict) -> None:
    """Writes the report, whole or not at all: a failure leaves an earlier report as it was.

    Args:
      path: of the HTML file; its folder exists.
      results: as in results.json.
      pictures: any of `PICTURES`: stimuli_x [k, ...], stimuli_probabilities [k, classes], real_x [m, ...], real_y [m], confusion
        {student: {'real' | 'stimuli' | 'control': int [classes, classes]}}, curves {model: {'step' | 'train_loss' |
        'validation_loss' | 'validation_kappa': [points]}}, study_kind ('windows', 'features' or 'images'), sampling_rate_hz,
        channels [names], config (text).
    """
    unknown = set(pictures) - set(PICTURES)
    if unknown:
        raise ValueError(f'unknown pictures {sorted(unknown)}: know {", ".join(PICTURES)}')
    write_whole(pathlib.Path(path), html(results, pictures))


def html(results: dict, pictures: dict) -> str:
    """The report as text."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.globals.update(at=at, SOURCES=SOURCES, SAME_SHARE=SAME_SHARE, SAME_FOUND=SAME_FOUND)
    environment.filters.update(
        number=number, percent=percent, count=lambda n: count(n).replace(' ', '\u00a0'), interval=interval, plain=plain, listing=listing,
        association_verdict=association_verdict, membership_verdict=membership_verdict, neighbours_verdict=neighbours_verdict,
        linkage_verdict=linkage_verdict, with_found=with_found,
    )
    students = at(results, 'students') or ()
    given = {key for s in students for source in SOURCES for key in SECONDARY if at(s, source, key) is not None}
    secondary = {key: name for key, name in SECONDARY.items() if key in given}
    return environment.from_string(TEMPLATE).render(
        study=at(results, 'study'), teacher=at(results, 'teacher'), stimuli=at(results, 'stimuli'), students=students,
        privacy=at(results, 'privacy'), secondary=secondary, reading=reading(results), notes=notes(results),
        charts=charts(results, pictures), shows_real=pictures.get('real_x') is not None,
        config=pictures.get('config'), css=markupsafe.Markup(CSS),
    )


CSS = """
:root { color-scheme: light dark; --ink: #1d2433; --soft: #5b6475; --paper: #fff; --card: #f4f6f9; --line: #d9dee7; --accent: #b8650a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ef; --soft: #9aa5b8; --paper: #14181f; --card: #1d232d; --line: #343d4b; --accent: #f0a04b; } }
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --paper: #fff; --card: #fff; --line: #bbb; --accent: #8a4a00; }
  section, figure, tr, .card { break-inside: avoid; } h2 { break-after: avoid; } body { font-size: 10pt; } main { padding: 0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; } h2 { font-size: 1.3rem; margin: 2.8rem 0 .6rem; padding-top: .8rem;
  border-top: 1px solid var(--line); } h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
p, li { max-width: 48rem; } li { margin: .3rem 0; } .soft, figcaption, caption { color: var(--soft); font-size: .88rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; margin: 1.5rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem; }
.card b { display: block; font-size: 1.55rem; line-height: 1.25; font-variant-numeric: tabular-nums; } .card span { color: var(--soft);
  font-size: .85rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; margin: .6rem 0;
  width: 100%; }
caption { text-align: left; caption-side: bottom; padding-top: .4rem; } th, td { padding: .35rem .6rem; text-align: right; border-bottom:
1px solid var(--line); }
th[colspan] { text-align: center; }
th:first-child, td:first-child, td.text, th.text { text-align: left; } thead th { color: var(--soft); font-weight: 600; vertical-align:
bottom; }
td.key { font-weight: 650; } td.text { font-size: .85rem; min-width: 15rem; } tr.inhibited td { color: var(--soft); }
figure { margin: 1rem 0; } figure svg { width: 100%; height: auto; display: block; } svg text { font-family: system-ui, sans-serif
!important; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: .5rem 2rem; }
.grid.large { grid-template-columns: minmax(0, 48rem); }
.box { border-left: 4px solid var(--accent); background: var(--card); padding: .6rem 1rem; margin: 1rem 0; } .box p { margin: .3rem 0; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .4rem; padding: .8rem; overflow-x: auto; font-size: .8rem;
white-space: pre-wrap; }
code { overflow-wrap: anywhere; } summary { cursor: pointer; }
"""

TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>neurostim: {{ at(study, 'name')|plain }}</title>
<style>{{ css }}</style>
</head>
<body><main>
<p class="soft">neurostim report</p>
<h1>{{ at(study, 'name')|plain }}</h1>
<p>{{ at(study, 'train_windows')|count }} training and {{ at(study, 'test_windows')|count }} held-out test windows of
{{ at(study, 'subjects')|count }} subjects; classes: {{ at(study, 'classes')|listing }}. A <em>teacher</em>
({{ (at(teacher, 'models') or ())|map('plain')|join(' + ') }})
learnt from the training windows. <em>Stimuli</em> are synthetic inputs found by exciting
its outputs. <em>Students</em> learnt from the stimuli alone and are tested here on the real held-out windows.</p>
<div class="cards">
<div class="card"><b>{{ at(teacher, 'kappa')|number }}</b><span>teacher's kappa (accuracy {{ at(teacher, 'accuracy')|number }})</span></div>
{% set ranked = students|selectattr('kappa_gap', 'defined')|rejectattr('kappa_gap', 'none')|sort(attribute='kappa_gap')|list %}
{% if ranked %}
<div class="card"><b>{{ ranked[0].kappa_gap|number }}</b><span>smallest kappa gap: {{ ranked[0].name|plain }}</span></div>
<div class="card"><b>{{ ranked[-1].kappa_gap|number }}</b><span>largest kappa gap: {{ ranked[-1].name|plain }}</span></div>
{% endif %}
<div class="card"><b>{{ at(stimuli, 'count')|count }}</b><span>stimuli by {{ at(stimuli, 'method')|plain }},
{{ at(stimuli, 'per_second')|count }} a second</span></div>
<div class="card"><b>{{ at(stimuli, 'accepted_fraction')|percent }}</b><span>of the stimuli accepted</span></div>
</div>

<section><h2>In plain words</h2>
{% if reading %}<ul>{% for sentence in reading %}<li>{{ sentence }}</li>{% endfor %}</ul>
{% else %}<p>No student was evaluated: there is nothing to compare yet.</p>{% endif %}
</section>

{% if students %}
<h2>Students: real windows, stimuli, control</h2>
{% if charts.gap %}<figure>{{ charts.gap }}<figcaption>Dots: kappa of the same student trained on real windows, on stimuli, and on the
control. Right: the difference real minus stimuli; left of zero, stimuli teach better.</figcaption></figure>{% endif %}
<div class="wide"><table>
<thead><tr><th rowspan="2">student</th><th rowspan="2">seeds</th><th colspan="3">accuracy</th><th colspan="3">kappa</th>
<th rowspan="2">kappa gap</th><th rowspan="2">95&nbsp;% interval</th></tr>
<tr>{% for _ in range(2) %}{% for source in SOURCES %}<th style="text-align:right">{{ source }}</th>{% endfor %}{% endfor %}</tr></thead>
<tbody>{% for s in students %}<tr><td>{{ s.name|plain }}</td><td>{{ at(s, 'seeds')|count }}</td>
{% for metric in ('accuracy', 'kappa') %}{% for source in SOURCES %}<td>{{ at(s, source, metric)|number }}</td>{% endfor %}{% endfor %}
<td class="key">{{ at(s, 'kappa_gap')|number }}</td><td>{{ at(s, 'kappa_gap_ci95')|interval }}</td></tr>
{% endfor %}</tbody>
<caption>Means over seeds, all on the same real held-out windows. <b>Real</b>: trained on the real training windows. <b>Stimuli</b>: on
stimuli alone. <b>Control</b>: on unexcited starting points with the teacher's labels. <b>Gap</b>: kappa real minus kappa
stimuli.</caption>
</table></div>
{% endif %}

{% if secondary %}
<details><summary>More figures of each student: {{ secondary.values()|join(', ') }}</summary>
<div class="wide"><table><thead><tr><th rowspan="2">student</th>{% for name in secondary.values() %}<th colspan="3">{{ name }}</th>
{% endfor %}</tr>
<tr>{% for _ in secondary %}{% for source in SOURCES %}<th style="text-align:right">{{ source }}</th>{% endfor %}{% endfor %}</tr></thead>
<tbody>{% for s in students %}<tr><td>{{ s.name|plain }}</td>
{% for key in secondary %}{% for source in SOURCES %}<td>{{ at(s, source, key)|number }}</td>{% endfor %}{% endfor %}</tr>
{% endfor %}</tbody></table></div></details>
{% endif %}

{% if charts.examples %}
<h2>Stimuli beside real windows</h2>
<figure>{{ charts.examples }}<figcaption>Examples, a class a row. Stimuli need not look real: they hold what the teacher's decision rests
on. At most ten classes and eight channels are drawn.</figcaption></figure>
{% if shows_real %}<p class="soft"><b>This page shows real windows: it is not for release.</b></p>{% endif %}
{% endif %}
{% if charts.beliefs %}
<h3>How sure the teacher is of its stimuli</h3>
<figure>{{ charts.beliefs }}<figcaption>A stimulus's label is the teacher's whole softmax; this is its largest entry.</figcaption></figure>
{% endif %}
{% set counts = at(stimuli, 'class_counts') %}
{% if counts %}<p class="soft">Stimuli by class:
{% for n in counts %}{{ (at(study, 'classes') or [])[loop.index0]|default('class ' ~ loop.index0)|plain }}:
{{ n|count }}{{ '; ' if not loop.last else '.' }}{% endfor %}</p>{% endif %}

{% if charts.confusion %}
<h2>Who is mistaken for whom</h2>
<p class="soft">Rows are the true class and sum to 100&nbsp;%; below each share the number of windows.</p>
<div class="grid{{ ' large' if (at(study, 'classes') or ())|length > 3 }}">
{% for name, chart in charts.confusion %}<figure><figcaption><b>{{ name }}</b></figcaption>{{ chart }}</figure>
{% endfor %}</div>
{% endif %}
{% if charts.curves %}
<h2>Training</h2>
<figure>{{ charts.curves }}<figcaption>Validation uses a part of the training windows, never the test windows.</figcaption></figure>
{% endif %}

{% if privacy is not none %}
<h2>Privacy: whom do the stimuli betray?</h2>
<p>The attacks below were tried against the stimuli. Each stands beside controls: a <em>positive control</em>, on which the attack must
succeed if it is worth anything, and a <em>negative control</em>, on which it cannot. An attack that fails its positive control shows
nothing.</p>
<h3>Association: does an attacker recognise a person?</h3>
{% set attackers = at(privacy, 'association', 'attackers') %}
{% if attackers %}
<div class="wide"><table><thead><tr><th>attacker</th><th>accuracy</th><th>known people</th><th>strangers</th><th>their draws</th>
<th>control</th><th>stimuli</th>
<th class="text">reading</th></tr></thead><tbody>
{% for a in attackers %}<tr{% if at(a, 'inhibited') %} class="inhibited"{% endif %}>
<td>{{ a.name|plain }}{{ ' (inhibited)' if at(a, 'inhibited') }}</td>
<td>{{ at(a, 'known_accuracy')|percent }}</td><td>{{ a|with_found('known') }}</td>
<td>{{ at(a, 'stranger_confident')|percent }}</td><td>{{ a|with_found('stranger_draws') }}</td>
<td>{{ a|with_found('control') }}</td>
<td class="key">{{ a|with_found('stimuli') }}</td><td class="text">{{ a|association_verdict }}</td></tr>{% endfor %}</tbody>
<caption>An attacker is a classifier trained to name the person a window comes from. <b>Accuracy</b>: on new windows of people it knows. The
other columns: the share of windows for which it names somebody with at least 90&nbsp;% belief, and in brackets with more belief than it
has in somebody for 99&nbsp;% of strangers' windows. <b>Known people</b> is the positive control.
<b>Strangers</b> (people it never saw) is the negative control: what it says of them is false confidence. <b>Their draws</b> is another:
draws of a population of strangers alone, in which it can know nobody, but might take whatever is no window for somebody.
<b>Control</b>: unexcited starting points. <b>Inhibited</b>: excitation was steered away from this very network, so it says nothing of
others. Shares that differ by less than {{ (100 * SAME_SHARE)|number(0) }} percentage points are read as equal, and so are shares in
brackets at most {{ (100 * SAME_FOUND)|number(0) }} above the 1&nbsp;% of strangers' windows, or above their draws'.</caption></table></div>
{% else %}<p>Not available; see the notes.</p>{% endif %}
{% set linkage = at(privacy, 'association', 'linkage') %}
{% if at(linkage, 'auc') is not none %}
<h3>Linkage: do somebody's recordings lie nearer to stimuli than a stranger's do?</h3>
<p>By nearness to stimuli, a person whom they were made from ranks before a stranger with probability {{ linkage.auc|number }}
{{ at(linkage, 'auc_ci95')|interval }} (0.5 is a coin toss); were real windows released instead, with probability
{{ at(linkage, 'control_auc')|number }}. {{ linkage|linkage_verdict }}</p>
{% endif %}

<h3>Membership: was this person, or this recording, in the training data?</h3>
{% set units = [] %}
{% for unit in ('record', 'subject') %}{% if at(privacy, 'membership', unit) is not none %}{{ units.append(unit) or '' }}{% endif %}
{% endfor %}
{% if units %}
<div class="wide"><table><thead><tr><th>asked of a</th><th class="text">attack</th><th>shadow models</th><th>through</th><th>AUC</th>
<th>95&nbsp;% interval</th><th>TPR at 1&nbsp;% FPR</th></tr></thead><tbody>
{% for unit in units %}{% set attack = at(privacy, 'membership', unit) %}{% for source in ('real', 'stimuli') %}
<tr><td>{{ unit }}</td><td class="text" style="min-width:6rem">{{ (at(attack, 'attack') or '–')|plain }}</td>
<td>{{ at(attack, 'shadow_models')|count }}</td>
<td>{{ 'real windows' if source == 'real' else 'stimuli' }}</td><td class="key">{{ at(attack, source, 'auc')|number }}</td>
<td>{{ at(attack, source, 'auc_ci95')|interval }}</td><td>{{ at(attack, source, 'tpr_at_1pct_fpr')|percent }}</td></tr>
{% endfor %}{% endfor %}</tbody>
<caption>AUC 0.5 is a coin toss, 1 a sure answer. The last column: of true members, how many are found when one non-member in a hundred is
wrongly accused (chance: 1&nbsp;%). What real windows give away in place of stimuli is the positive control.</caption></table></div>
<ul>{% for unit in units %}<li>For one {{ unit }}: {{ at(privacy, 'membership', unit)|membership_verdict }}</li>{% endfor %}</ul>
{% for unit in units %}{% if at(privacy, 'membership', unit, 'attacks') %}
<details><summary>Every attack on one {{ unit }}</summary>
<div class="wide"><table><thead><tr><th class="text">attack</th><th>on</th><th>AUC</th>
<th>95&nbsp;% interval</th><th>TPR at 1&nbsp;% FPR</th><th>epsilon at least</th></tr></thead><tbody>
{% for a in privacy.membership[unit].attacks %}<tr><td class="text">{{ a.attack|plain }}</td><td>{{ a.against|plain }}</td>
<td>{{ at(a, 'auc')|number }}</td><td>{{ at(a, 'auc_ci95')|interval }}</td><td>{{ at(a, 'tpr_at_1pct_fpr')|percent }}</td>
<td>{{ at(a, 'epsilon_lower_bound')|number(2) }}</td></tr>{% endfor %}</tbody></table></div></details>
{% endif %}{% endfor %}
{% set canaries = at(privacy, 'membership', 'canaries') %}
{% if canaries is not none %}
<p>Canaries: {{ canaries.planted|count }} windows with a wrong label were planted.
{% for copies, found in canaries.items() if found is mapping %}
With {{ copies|plain }}, the attack tells a planted one with AUC {{ at(found, 'stimuli', 'auc')|number }} through stimuli
({{ at(found, 'real', 'auc')|number }} through a student of real windows).{% endfor %}</p>
{% endif %}
{% if at(privacy, 'membership', 'pipelines') is not none %}
<p class="soft">Attacked are shadow pipelines, {{ privacy.membership.pipelines|plain(200) }}.</p>
{% endif %}
{% if at(privacy, 'membership', 'priors') is not none %}
<p class="soft">Attacked is what stimuli start from, too: {{ privacy.membership.priors|plain(200) }}.</p>
{% endif %}
{% else %}<p>Not available; see the notes.</p>{% endif %}

<h3>Neighbours: are stimuli copies of training windows?</h3>
{% set near = at(privacy, 'neighbours') %}
<p>Median distance to the nearest training window: {{ at(near, 'stimuli_to_train')|number }} from stimuli,
{{ at(near, 'holdout_to_train')|number }} from held-out real windows; ratio {{ at(near, 'ratio')|number }}
{{ at(near, 'ratio_ci95')|interval }}. {{ near|neighbours_verdict }}</p>

<h3>Differential privacy</h3>
{% set dp = at(privacy, 'differential_privacy') %}
{% if dp is none %}
<p>None was used. The figures above are measurements of particular attacks, not guarantees against others.</p>
{% else %}
<p>For one {{ at(dp, 'unit')|plain }}: epsilon {{ at(dp, 'epsilon')|number(2) }} at delta
{{ at(dp, 'delta')|number('g') }},
covering {{ at(dp, 'components')|listing }}. Whether a {{ at(dp, 'unit')|plain }} took part can change the odds of anything anybody
concludes from the covered parts by a factor of at most e<sup>epsilon</sup>, except with probability about delta. Smaller is safer; above
10 the bound means little.</p>
{% set audit = at(dp, 'audited_epsilon_lower_bound') %}
<p>An audit by attack found a lower bound of {{ audit|number(2) }}.
{% if none in (audit, at(dp, 'epsilon')) %}{% elif audit > dp.epsilon %}<b>This contradicts the guarantee: do not rely on it.</b>
{% else %}It does not contradict the guarantee.{% endif %}</p>
{% endif %}
<div class="box"><p><b>What this does not show.</b> Attackers that were not tried may do better, and so may anyone with further recordings
of the same people, or knowledge from elsewhere. Figures hold for the people of this study and this one release; several releases of one
cohort add up. Rare people may be at greater risk than the averages here. The chapter is evidence for an assessment of data protection
and does not replace it; whether stimuli count as anonymous is a legal judgement.</p></div>
{% endif %}

{% if notes %}
<h2>Notes</h2>
<p class="soft">A dash (–) marks a figure that this study or run does not support.</p>
<ul>{% for place, text in notes %}<li><b>{{ place }}</b>: {{ text }}</li>{% endfor %}</ul>
{% endif %}
<h2>How it was made</h2>
<p>{{ at(stimuli, 'count')|count }} stimuli in {{ at(stimuli, 'seconds')|number(1) }} s. SHA-256 of their values:
<code>{{ at(stimuli, 'sha256')|plain(80) }}</code></p>
{% if config %}<details><summary>Full configuration</summary><pre>{{ config }}</pre></details>{% endif %}
</main></body></html>
"""
