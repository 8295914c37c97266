"""What figures say, in plain words, and no more than they say."""

from __future__ import annotations

from neurostim.evaluation.association import FALSE_ALARMS
from neurostim.evaluation.membership import NEGATIVE_CONTROL, NEGATIVE_CONTROL_PEOPLE
from neurostim.report.text import ABSENT, at, count, interval, listing, number, percent, plain

# Differences below these are called equal in the words of the report (and the words say so).
SAME_KAPPA = 0.01
SAME_SHARE = 0.05
# Up to so much more than the 1 % of strangers' windows an attacker finds as few (and the words say so).
SAME_FOUND = 0.02
# Below this kappa a student has learnt next to nothing, and its gap says nothing either.
USELESS_KAPPA = 0.2


def reading(results: dict) -> list[str]:
    """What the figures say, in sentences for a newcomer; nothing is claimed that the numbers do not carry."""
    said = []
    kappa, tests = at(results, 'teacher', 'kappa'), at(results, 'study', 'test_windows')
    if kappa is not None:
        said.append(
            f'The teacher reaches kappa {kappa:.3f} on {count(tests)} real windows that were held out. Kappa is agreement beyond chance:'
            ' 0 is guessing, 1 is perfect.' + (' This teacher is weak: a small gap to it is easily had.' if kappa < 0.4 else '')
        )
    students = [s for s in at(results, 'students') or () if at(s, 'kappa_gap') is not None]
    able = [s for s in students if (at(s, 'real', 'kappa') or 0) >= USELESS_KAPPA]
    if able:
        said += _gap_sentences(able)
    for student in students:
        if student not in able:
            said.append(
                f'{plain(student["name"])} learns next to nothing even from real windows (kappa {number(at(student, "real", "kappa"))}):'
                ' its gap says nothing about the stimuli.'
            )
    said += _control_sentences([s for s in able if at(s, 'control', 'kappa') is not None and at(s, 'stimuli', 'kappa') is not None])
    accepted = at(results, 'stimuli', 'accepted_fraction')
    if accepted is not None and accepted < 0.9:
        said.append(f'Only {percent(accepted)} of the stimuli were accepted; the others did not reach the belief asked for.')
    seeds = [at(s, 'seeds') for s in students if at(s, 'seeds') is not None]
    if seeds and min(seeds) < 3:
        fewest = f'{min(seeds)} seed{"s" * (min(seeds) > 1)}'
        said.append(f'Some students were trained with {fewest} only: differences of a few thousandths are luck.')
    return said


def _gap_sentences(students) -> list[str]:
    best, worst = (choose(students, key=lambda s: s['kappa_gap']) for choose in (min, max))
    said = []
    for student, size in ((best, 'the smallest'), (worst, 'the largest')) if worst is not best else ((best, 'a'),):
        bounds = interval(at(student, 'kappa_gap_ci95'))
        said.append(
            f'{plain(student["name"])} has {size} gap to its twin that saw the real windows: trained on stimuli alone it reaches kappa'
            f' {number(at(student, "stimuli", "kappa"))} instead of {number(at(student, "real", "kappa"))}, a gap of'
            f' {student["kappa_gap"]:.3f}' + (f' (95 % interval {bounds}).' if bounds != ABSENT else '.')
        )
    gap, real, stimuli = worst['kappa_gap'], at(worst, 'real', 'accuracy'), at(worst, 'stimuli', 'accuracy')
    if real is not None and stimuli is not None:
        mistakes = 1000 * (real - stimuli)
        said.append(
            f'A gap of {gap:.3f} means: of the agreement beyond chance that there is to have, this student has'
            f' {abs(100 * gap):.1f} percentage points {"less" if gap >= 0 else "more"}. Counted in windows, it makes about'
            f' {abs(mistakes):.0f} {"more" if mistakes >= 0 else "fewer"} mistakes in every 1000.'
        )
    known = [s for s in students if interval(at(s, 'kappa_gap_ci95')) != ABSENT]
    level = [s for s in known if s['kappa_gap_ci95'][0] <= 0 <= s['kappa_gap_ci95'][1]]
    if level:
        said.append(
            f'For {listing([s["name"] for s in level])} the interval includes zero: this test cannot tell a student of stimuli from one'
            ' of real windows. A wide interval may do so for want of test data.'
        )
    better = [s for s in known if s['kappa_gap_ci95'][1] < 0]
    if better:
        said.append(f'{listing([s["name"] for s in better])} did better on stimuli than on the real windows, by more than chance explains.')
    return said


def _control_sentences(students) -> list[str]:
    gain = {plain(s['name']): s['stimuli']['kappa'] - s['control']['kappa'] for s in students}
    helped = [n for n, g in gain.items() if g > SAME_KAPPA]
    same = [n for n, g in gain.items() if g <= SAME_KAPPA]
    said = []
    if helped:
        best = max(helped, key=gain.get)
        said.append(
            f'Excitation helps {listing(helped)}: kappa rises above that of the control, most for {best} (by {gain[best]:.3f}).'
            ' The control is the same starting points, labelled by the teacher but not excited.'
        )
    if same:
        said.append(
            f'For {listing(same)} the control is as good as the stimuli or better (within {SAME_KAPPA}): there the labels that the teacher'
            ' gives to unexcited starting points carry the task, and excitation adds nothing that this test can see.'
        )
    return said


def association_verdict(attacker) -> str:
    """What one identity attacker shows, given its controls."""
    known, stranger, draws, stimuli = (at(attacker, f'{kind}_confident') for kind in ('known', 'stranger', 'stranger_draws', 'stimuli'))
    found = {kind: at(attacker, f'{kind}_found_at_1pct') or 0 for kind in ('known', 'stranger_draws', 'stimuli')}
    finds_known, finds_stimuli = (found[kind] > FALSE_ALARMS + SAME_FOUND for kind in ('known', 'stimuli'))
    if known is None or stimuli is None:
        return 'not available'
    said = 'took part in the excitation: says nothing of other attackers; ' if at(attacker, 'inhibited') else ''
    if stranger is None:
        return said + 'no strangers to compare with: inconclusive'
    if known <= stranger + SAME_SHARE and not finds_known:
        return said + 'inconclusive: as sure about strangers as about people it knows, so it does not recognise anybody'
    if stimuli <= stranger + SAME_SHARE and not finds_stimuli:
        return said + 'no more sure about stimuli than about strangers, whom it cannot know'
    if draws is not None and stimuli <= max(stranger, draws) + SAME_SHARE and found['stimuli'] <= found['stranger_draws'] + SAME_FOUND:
        return said + "inconclusive: as sure about draws of strangers' own population, so it may take whatever is no window for somebody"
    return said + 'more sure about stimuli than about strangers: stimuli may betray people to it'


def strongest(attack) -> dict | None:
    """Of all attacks through stimuli the one with the highest AUC; negative controls are none."""
    through = [a for a in at(attack, 'attacks') or () if at(a, 'against') == 'stimuli' and at(a, 'auc') is not None
               and at(a, 'attack') not in (NEGATIVE_CONTROL, NEGATIVE_CONTROL_PEOPLE)]
    return max(through, key=lambda a: a['auc'], default=None)


def membership_verdict(attack) -> str:
    """What attacks on membership show: the first one, given its positive control, and the strongest, where that one finds more."""
    real, stimuli = at(attack, 'real', 'auc_ci95'), at(attack, 'stimuli', 'auc_ci95')
    if interval(real) == ABSENT or interval(stimuli) == ABSENT:
        return 'Not available or without an interval: no conclusion.'
    if real[0] <= 0.5:
        said = 'Inconclusive: the attack does not work through real windows either, so its failure through stimuli shows nothing.'
    elif stimuli[0] <= 0.5:
        said = 'The attack works through real windows and does no better than chance through stimuli.'
    else:
        said = 'Membership leaks through the stimuli' + (
            ', though less than through real windows.' if stimuli[1] < real[0] else ', about as much as through real windows.')
    best = strongest(attack)
    if best and interval(at(best, 'auc_ci95')) != ABSENT and 0.5 < best['auc_ci95'][0] and at(attack, 'stimuli', 'auc') < best['auc']:
        said += (f' The strongest attack finds membership through stimuli: {plain(best["attack"])}, AUC {number(best["auc"])}'
                 f' {interval(best["auc_ci95"])}.')
    return said


def linkage_verdict(linkage) -> str:
    """Whether nearness to stimuli tells who is in, given the positive control."""
    bounds, control = at(linkage, 'auc_ci95'), at(linkage, 'control_auc')
    if interval(bounds) == ABSENT:
        return 'Not available.'
    if control is None or control < 0.6:
        return 'Inconclusive: real windows in place of stimuli would not tell either.'
    if bounds[0] <= 0.5:
        return 'Nearness to stimuli does not tell the people that they were made from and strangers apart.'
    return 'Nearness to stimuli tells the people that they were made from and strangers apart: they are linked.'


def neighbours_verdict(near) -> str:
    """The `neighbours` entry of results.json in a sentence."""
    stimuli, held = at(near, 'stimuli_to_train'), at(near, 'holdout_to_train')
    if stimuli is None or held is None:
        return 'Not available.'
    if stimuli >= held:
        return 'By the median, stimuli lie no nearer to training windows than held-out real windows do. Single copies would not show here.'
    return 'By the median, stimuli lie nearer to training windows than held-out real windows do: look for copies.'
