"""Simulated ECG of invented people: studies like those of :mod:`experiments.unseen_studies`, of which they are a part."""

from __future__ import annotations

import numpy as np

from experiments.simulation import bumps, coloured_noise, invented_people


def small(seed: int | list[int], n: int = 200, people: int = 8) -> dict[str, np.ndarray]:
    """Beats of a two-lead ECG, 2 s at 125 Hz around each, 200 windows: ordinary ones, or early ones, wide and of another shape."""
    rng, time, rate = np.random.default_rng(seed), 250, 125.0
    subject, y = invented_people(rng, n, people), (rng.random(n) < .4).astype(int)
    period = np.clip(rng.normal(.85, .12, people), .6, 1.2)
    lead, early = rng.normal([1, .7], [.2, .3], (people, 2)), rng.normal([.9, -.4], [.4, .5], (people, 2))
    at, width, size = np.array([[-.16, .025, .15], [-.03, .010, -.12], [0, .012, 1], [.03, .012, -.25], [.26, .05, .3]]).T  # P, Q, R, S, T
    sizes = size * np.exp(rng.normal(0, .25, (people, len(size))))
    x = np.zeros((n, time, 2))
    for i in range(n):
        who = subject[i]
        spare = y[i] * rng.uniform(.1, .35) * period[who]  # how much too early the beat in the middle is
        for number in (-2, -1, 0, 1, 2):
            peak = 1 + rng.normal(0, .02) + number * period[who] + spare * np.sign(number)
            if number or not y[i]:
                x[i] += (sizes[who] @ bumps(time, (peak + at) * rate, width * rate))[:, None] * lead[who]
            else:
                wide = bumps(time, np.array([peak, peak + .28]) * rate, np.array([rng.uniform(.02, .05), .07]) * rate)
                x[i] += ([1, -.35] @ wide)[:, None] * early[who] * rng.normal(1, .25)
    x += .2 * coloured_noise(rng, x.shape, 2) * np.exp(rng.normal(0, .6, (n, 1, 1))) + .08 * rng.normal(size=x.shape)
    return {'x': x.astype(np.float32), 'y': y, 'subject': subject, 'classes': np.array(['ordinary', 'early']),
            'channels': np.array(['II', 'V5']), 'sampling_rate_hz': np.float32(rate)}


def beats(seed: int, n: int = 12_000, people: int = 40) -> dict[str, np.ndarray]:
    """Single heartbeats, 0.75 s of one lead at 250 Hz around each, of five kinds, 84 % of them normal.

    How strong and how wide a person's waves are, and which other kinds their heart knows, is their own; an early beat differs by its P
    wave, a fusion is a normal and a ventricular one at once.
    """
    rng, time = np.random.default_rng(seed), 187
    share = np.array([.86, .04, .07, .01, .02])
    who = invented_people(rng, n, people)
    own_share = .5 * share + .5 * rng.dirichlet(share * 8 + .02, people)
    y = np.array([rng.choice(len(share), p=own_share[person]) for person in who])
    gain, wide = np.exp(rng.normal(0, .3, people)), np.exp(rng.normal(0, .12, people))[who]
    p_height, t_height = rng.normal(.15, .06, people)[who], rng.normal(.3, .12, people)[who]
    level, axis, own_shape = rng.normal(0, .05, people), rng.normal(0, .25, people)[who], rng.normal(0, 1, (people, 3))[who]
    r_peak = 70 + rng.normal(0, 1.5, n)

    def wave(after, width, height):
        """[n, time]: a wave so many samples after the R peak, with a width and a height."""
        return height[:, None] * bumps(time, r_peak + after, np.maximum(width, 1.0))

    def about(size, spread):
        """[n]: sizes that vary by a share."""
        return size * np.exp(rng.normal(0, spread, n))

    one = np.ones(n)
    normal = (wave(-38 * wide, 6 * one, about(p_height, .3)) + wave(-7 * wide, 2 * wide, about(-.12, .4))
              + wave(0, about(3 * wide, .08), about(1, .1) + axis) + wave(7 * wide, 2.5 * wide, -about(.25 + .3 * axis, .3))
              + wave(about(58, .05), 13 * one, about(t_height, .2)))
    early = (wave(about(-30 * wide, .15), 4.5 * one, about(.6 * p_height, .6) * rng.choice([-1, 1], n, p=[.4, .6]))
             + wave(-7 * wide, 2 * wide, about(-.12, .4)) + wave(0, about(3 * wide, .12), about(.92, .12) + axis)
             + wave(7 * wide, 2.5 * wide, -about(.3 + .3 * axis, .3)) + wave(about(52, .08), 12 * one, about(.8 * t_height, .3)))
    sign = np.where(own_shape[:, 0] > -.5, 1, -1)
    ventricular = (wave(2 + 3 * own_shape[:, 1], about(9, .15), sign * about(1.3 + .2 * own_shape[:, 2], .15))
                   + wave(22, about(9, .2), -.35 * sign * about(1, .4)) + wave(about(55, .08), 16 * one, -.5 * sign * about(1, .3)))
    paced = (wave(-14, one, about(.7, .3)) + wave(4, about(10, .1), about(1 + .3 * own_shape[:, 1], .15))
             + wave(60, 17 * one, about(-.4, .2)))
    mixed = rng.uniform(.3, .7, n)[:, None]
    x = np.choose(y[:, None], [normal, early, ventricular, mixed * normal + (1 - mixed) * ventricular, paced])
    x = x * gain[who][:, None] * about(1, .1)[:, None] + level[who][:, None]
    x += .12 * about(1, .5)[:, None] * coloured_noise(rng, (n, time), 2.0) + .02 * rng.normal(size=(n, time))
    x += (rng.random(n) < .05)[:, None] * .3 * rng.normal(size=(n, time))
    return {'x': x[..., None].astype(np.float32), 'y': y, 'subject': who,
            'classes': np.array(['normal', 'supraventricular', 'ventricular', 'fusion', 'paced']), 'channels': np.array(['II']),
            'sampling_rate_hz': np.float32(250)}


def twelve_leads(seed: int, n: int = 3000, people: int = 600) -> dict[str, np.ndarray]:
    """Ten seconds of a twelve-lead ECG at 100 Hz, of 600 people: sinus rhythm, atrial fibrillation, a wide QRS complex, or a raised ST.

    A heart's waves are seen by eight leads of a person's own, the other four follow from them; most people have one kind of window only.
    """
    rng, time, rate = np.random.default_rng(seed), 1000, 100.0
    names = ('sinus', 'fibrillation', 'wide', 'raised ST')
    fibrillation, broad, raised_st = range(1, 4)
    own = rng.choice(4, people, p=[.5, .18, .17, .15])
    subject = np.sort(invented_people(rng, n, people))
    y = np.where(rng.random(n) < .85, own[subject], rng.choice(4, n, p=[.7, .1, .1, .1]))
    place = np.array([-.17, -.03, 0, .035, .12, .28])  # P, Q, R, S, ST, T: seconds from R
    width = np.array([.028, .012, .014, .014, .05, .055])
    usual = np.array([[.12, .15, .08, .08, .10, .11, .12, .12], [-.05, -.08, 0, 0, -.03, -.08, -.1, -.1],
                      [.6, .9, .2, .4, .7, 1.1, 1.2, 1.0], [-.15, -.2, -.9, -1.2, -.8, -.4, -.2, -.1],
                      [0, 0, .05, .08, .05, 0, 0, 0], [.2, .28, .05, .35, .4, .38, .33, .28]])  # [wave, lead]: I, II, V1 to V6
    heart = usual * np.exp(rng.normal(0, .25, (people, 6, 8))) + .05 * rng.normal(size=(people, 6, 8))
    beat_s, stretch = np.clip(rng.normal(.85, .13, people), .5, 1.3), np.exp(rng.normal(0, .08, people))
    wide = np.array([.1, .1, -.5, -.3, .1, .4, .6, .6]) + .15 * rng.normal(size=(people, 8))
    walls = np.array([[-.3, -.3, .6, 1, 1, .6, .2, 0], [-.4, 1, -.3, -.4, -.2, 0, .3, .4]])  # of the heart: before, below
    raised = np.abs(rng.normal(.18, .07, people))[:, None] * walls[rng.integers(0, 2, people)]
    x = np.zeros((n, time, 8), np.float32)
    seconds = np.arange(time) / rate
    for i in range(n):
        who, kind = subject[i], y[i]
        hurry, spread = (.8, .2) if kind == fibrillation else (1, .03)
        intervals = beat_s[who] * hurry * np.exp(rng.normal(0, spread, 30))
        peaks = np.cumsum(intervals) - rng.uniform(.5, 1.5)
        peaks = peaks[peaks < 10.5]
        waves = heart[who].copy()
        widths, places = width * stretch[who], place * stretch[who]
        if kind == fibrillation:
            waves[0] = 0  # no P wave
        if kind == broad:
            widths = widths * [1, 1.6, 1.9, 2, 1, 1]
            waves[3] += wide[who] * rng.normal(1, .15)
            waves[5] -= .5 * wide[who]
            places = places * [1, 1.3, 1, 2, 1, 1.05]
        if kind == raised_st:
            waves[4] += raised[who] * rng.normal(1, .2)
        late = (seconds[:, None] - peaks)[..., None] - places  # [time, beats, waves]
        x[i] = np.exp(-.5 * (late / widths) ** 2).sum(1) @ waves
        if kind == fibrillation:
            x[i] += (.04 * np.sin(2 * np.pi * np.cumsum(6 + .5 * rng.normal(size=time)) / rate))[:, None] * [.3, .8, 1, .6, .3, .2, .2, .2]
    x += coloured_noise(rng, x.shape, 1.8) * .06 * np.exp(rng.normal(0, .5, (n, 1, 8))) + .02 * rng.normal(size=x.shape)
    one, two = x[..., 0], x[..., 1]
    limbs = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    x = np.concatenate([np.stack(limbs, -1), x[..., 2:]], -1)
    return {'x': x.astype(np.float32), 'y': y, 'subject': subject, 'classes': np.array(names),
            'channels': np.array(['I', 'II', 'III', 'aVR', 'aVL', 'aVF', *(f'V{i}' for i in range(1, 7))]),
            'sampling_rate_hz': np.float32(rate)}


def rhythms(seed: int, n: int = 2400, people: int = 60) -> dict[str, np.ndarray]:
    """Minutes of one lead of ECG at 100 Hz, 6 000 samples each: sinus rhythm, atrial fibrillation, or sinus rhythm with many early beats.

    An early beat is wide, of a shape of its person's own, and the next one comes late. Sinus rhythm has a few of them too; some people's
    heart follows the breath closely, and most people have minutes of two kinds.
    """
    rng, time, rate = np.random.default_rng(seed), 6000, 100.0
    subject = np.sort(invented_people(rng, n, people))
    kinds = np.stack([rng.permutation(3)[:2] for _ in range(people)])
    y = np.where(rng.random(n) < .9, kinds[subject, rng.integers(0, 2, n)], 0)
    place, width = np.array([[-.17, -.03, 0, .035, .28], [.028, .012, .014, .014, .055]])  # P, Q, R, S, T: seconds
    waves = np.array([.12, -.08, 1, -.25, .28]) * np.exp(rng.normal(0, .3, (people, 5)))
    early = np.array([0, 0, .9, -.3, -.3]) * np.exp(rng.normal(0, .3, (people, 5))) * rng.choice([-1, 1], (people, 1), p=[.3, .7])
    beat_s, stretch = np.clip(rng.normal(.9, .12, people), .6, 1.25), np.exp(rng.normal(0, .08, people))
    breath_hz, follows = rng.normal(.25, .03, people), np.exp(rng.normal(-3.3, .6, people))
    x = np.zeros((n, time, 1), np.float32)
    for i in range(n):
        who, fibrillates = subject[i], y[i] == 1
        pace = beat_s[who] * np.exp(rng.normal(0, .08)) * (.85 if fibrillates else 1)
        beats = np.arange(int(64 / pace) + 20)
        spread = rng.normal(0, .16 if fibrillates else .02, len(beats))
        breath = follows[who] * (not fibrillates) * np.sin(2 * np.pi * (breath_hz[who] * pace * beats + rng.uniform()))
        interval = pace * np.exp(spread + breath)
        is_early = rng.random(len(beats)) < (rng.uniform(.08, .3) if y[i] == 2 else rng.uniform(0, .015))
        is_early[1:] &= ~is_early[:-1]
        ahead = is_early * rng.uniform(.25, .45, len(beats))
        peaks = np.cumsum(interval * (1 - ahead + np.append(0, ahead[:-1]))) - rng.uniform(1, 2)
        for peak, other in zip(peaks, is_early, strict=True):
            own = slice(max(0, int((peak - .5) * rate)), max(0, int((peak + .8) * rate)))
            widths = width * stretch[who] * (np.array([1, 1, 3, 3, 1.3]) if other else 1)
            late = (np.arange(time)[own, None] / rate - peak - place * stretch[who]) / widths
            height = (early if other else waves)[who] * ([0, 1, 1, 1, 1] if fibrillates else 1)
            x[i, own, 0] += np.exp(-.5 * late ** 2) @ (height * rng.normal(1, .04))
        if fibrillates:
            x[i, :, 0] += .04 * np.sin(2 * np.pi * np.cumsum(6 + .5 * rng.normal(size=time)) / rate)
    x += coloured_noise(rng, x.shape, 1.8) * .1 * np.exp(rng.normal(0, .5, (n, 1, 1))) + .03 * rng.normal(size=x.shape)
    x *= np.exp(rng.normal(0, .3, people))[subject][:, None, None]
    return {'x': x.astype(np.float32), 'y': y, 'subject': subject, 'classes': np.array(['sinus', 'fibrillation', 'early beats']),
            'channels': np.array(['ECG']), 'sampling_rate_hz': np.float32(rate)}
