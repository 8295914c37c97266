"""Studies that nothing in neurostim was tuned for: simulated recordings of invented people, and scikit-learn's data with people invented.

Each is a function of a seed and gives the arrays of a `.npz` file for `own_study`. What tells people apart (gains, rates, how a sensor is
worn) is drawn once a person, what tells classes apart overlaps between people and with noise and artefacts, so that real windows
are not classified without errors. Of four people a test says little: studies that know few are tested on many others.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from experiments import unseen_hearts as hearts
from experiments.simulation import bumps, bursts, coloured_noise, invented_people, wandering_phase

BLOCK = 20_000  # windows simulated at once: the large study must not need more memory than the run that it is for


def digits(seed: int) -> dict[str, np.ndarray]:
    """scikit-learn's digits, 8 x 8; thirteen people are invented, each wrote a stretch of them. The seed says who wrote which one."""
    from sklearn.datasets import load_digits
    data = load_digits()
    n = len(data.target)
    return {'x': data.images[..., None].astype(np.float32), 'y': data.target, 'subject': (np.arange(n) * 13 // n + 4 * seed) % 13}


def table(name: str, people: int) -> Callable[[int], dict[str, np.ndarray]]:
    """One of scikit-learn's tables of features, whose rows are dealt out to invented people."""

    def load(seed: int):
        from sklearn import datasets
        data = getattr(datasets, f'load_{name}')()
        return {'x': data.data.astype(np.float32), 'y': data.target, 'classes': data.target_names.astype(str),
                'subject': invented_people(np.random.default_rng(seed), len(data.target), people)}

    return load


def accelerometer(seed: int, people: int = 30, windows: int = 20) -> dict[str, np.ndarray]:
    """Ten activities at the waist, 2.56 s at 50 Hz; `windows` of each activity and person.

    Gravity says how somebody lies or sits, a step's harmonics how they walk. Each wears the sensor askew, walks at their own pace, and
    sits much as others stand.
    """
    rng, time, rate = np.random.default_rng(seed), 128, 50.0
    names = ('lying', 'lying on a side', 'sitting', 'standing', 'walking', 'upstairs', 'downstairs', 'running', 'cycling', 'hopping')
    gravity = np.array([[0, .1, 1], [0, 1, .1], [.9, 0, .4], [1, 0, .1], [1, 0, .1],
                        [.95, 0, .25], [1, 0, 0], [.95, 0, .2], [.8, 0, .5], [1, 0, 0]])
    cadence = np.array([0, 0, 0, 0, 1.85, 1.6, 2.0, 2.7, 1.3, 2.3])  # Hz
    strength = np.array([0, 0, 0, 0, .25, .22, .32, .9, .12, .8])  # g
    y = np.tile(np.repeat(np.arange(len(names)), windows), people)
    subject = np.repeat(np.arange(people), len(names) * windows)
    askew, pace, vigour = rng.normal(0, .15, (people, 3)), rng.normal(1, .1, people), np.exp(rng.normal(0, .25, people))
    harmonics = np.array([1, .5, .25]) * np.exp(rng.normal(0, .4, (people, len(names), 3, 3)))  # [person, activity, axis, harmonic]
    lead = rng.uniform(0, 2 * np.pi, (people, len(names), 3, 3))
    n = len(y)
    phase = wandering_phase(rng, cadence[y] * pace[subject] * rng.normal(1, .06, n) / rate, time, .03)
    waves = np.sin(phase[:, :, None, None] * np.arange(1, 4) + lead[subject, y][:, None])  # [n, time, axis, harmonic]
    force = strength[y] * vigour[subject] * np.exp(rng.normal(0, .2, n))
    moving = (waves * harmonics[subject, y][:, None]).sum(-1) * force[:, None, None] * [1, .5, .7]
    still = gravity[y] + askew[subject] + rng.normal(0, .1, (n, 3))
    restless = .02 + .05 * rng.gamma(1, 1, n) * (strength[y] == 0) + .15 * strength[y]
    tremor = coloured_noise(rng, (n, time, 3)) * restless[:, None, None]
    return {'x': (9.81 * (still[:, None] + moving + tremor)).astype(np.float32), 'y': y, 'subject': subject,
            'classes': np.array(names), 'channels': np.array(['up', 'left', 'forward']), 'sampling_rate_hz': np.float32(rate)}


def rare_spikes(seed: int, n: int = 10_000, people: int = 25) -> dict[str, np.ndarray]:
    """Spikes and slow waves in 3.6 % of windows of EEG, 1 s at 200 Hz; blinks and muscle in others, and an electrode that fell off."""
    rng, time = np.random.default_rng(seed), 200
    subject, y = invented_people(rng, n, people), (rng.random(n) < 0.036).astype(int)
    gain, alpha, sharp = np.exp(rng.normal(0, .25, people)), rng.normal(10, 1, people), rng.uniform(2.5, 5, people)
    field = np.abs(rng.normal([1, .6, .4], .15, (people, 3)))  # how strong a spike is at each electrode
    x = coloured_noise(rng, (n, time, 3), 1.5)
    x += (.5 * np.exp(rng.normal(0, .5, n)))[:, None, None] * np.sin(wandering_phase(rng, alpha[subject] / 200, time, .05))[..., None]
    at = rng.uniform(30, 140, n)
    spike = bumps(time, at, sharp[subject]) * 6 - 2.4 * bumps(time, at + 7 * sharp[subject], 5 * sharp[subject])
    x += (y * np.exp(rng.normal(0, .35, n)))[:, None, None] * spike[..., None] * field[subject][:, None]
    blink = (rng.random(n) < .06) * rng.uniform(2, 5, n)
    x += blink[:, None, None] * bumps(time, rng.uniform(0, time, n), np.full(n, 22.0))[..., None] * [1, .3, .1]
    muscle = (rng.random(n) < .1) * rng.gamma(2, .5, n)
    x += muscle[:, None, None] * rng.normal(size=x.shape)
    dead = np.zeros((n, time, 1), np.float32)
    x = 20e-6 * np.concatenate([x * gain[subject][:, None, None], dead], 2)
    return {'x': x.astype(np.float32), 'y': y, 'subject': subject,
            'classes': np.array(['background', 'spike']), 'channels': np.array(['F3', 'C3', 'O1', 'P3']),
            'sampling_rate_hz': np.float32(200)}


def sleep_eeg(seed: int | list[int], n: int = 1000, people: int = 8) -> dict[str, np.ndarray]:
    """Five stages of sleep, 60 s at 100 Hz of EEG and EOG: 6 000 samples a window.

    Alpha and muscle awake, theta in N1, spindles and K-complexes in N2, slow waves in N3, theta and saccades in REM; each person has an
    alpha rhythm, slow waves and an amplifier of their own, and stages last for minutes.
    """
    rng, time, rate = np.random.default_rng(seed), 6000, 100.0
    subject = np.sort(invented_people(rng, n, people))
    stays = np.array([[.85, .13, .02, 0, 0], [.1, .6, .25, 0, .05], [.02, .05, .78, .1, .05],
                      [.01, .01, .13, .85, 0], [.04, .05, .06, 0, .85]])
    y = np.zeros(n, int)
    for i in range(1, n):
        y[i] = rng.choice(5, p=stays[y[i - 1]]) if subject[i] == subject[i - 1] else 0
    alpha, gain, deep = rng.normal(10, .8, people), np.exp(rng.normal(0, .25, people)), np.exp(rng.normal(0, .35, people))
    seconds = np.arange(time) / rate

    def rhythm(frequency, strength, spread=.4):
        """[n, time]: a rhythm that comes and goes; `strength` is one a stage."""
        level = np.asarray(strength)[y] * np.exp(rng.normal(0, spread, n))
        waxing = np.exp(.6 * coloured_noise(rng, (n, time), 2.5))
        return level[:, None] * waxing * np.sin(wandering_phase(rng, frequency / rate, time, .08))

    eeg = coloured_noise(rng, (n, time), 1.2) + .2 * rng.normal(size=(n, time)).astype(np.float32)
    eeg += rhythm(alpha[subject], [1.2, .3, .1, .05, .15])
    eeg += rhythm(rng.normal(5.5, .7, n), [.2, .6, .4, .3, .55])
    eeg += deep[subject][:, None] * rhythm(rng.normal(1.2, .25, n), [.1, .25, .8, 2.2, .2])
    spindles = bursts(rng, n, time, rng.poisson(np.array([0, .4, 4, 1.5, .1])[y]), 35) * np.sin(2 * np.pi * 13.2 * seconds)
    complexes = bursts(rng, n, time, rng.poisson(np.array([0, .2, 2, .5, 0])[y]), 20)
    eeg += 1.3 * spindles - 3 * complexes
    muscle = np.array([1.0, .5, .3, .25, .15])[y] * np.exp(rng.normal(0, .4, n))
    eeg += .3 * muscle[:, None] * rng.normal(size=(n, time))
    saccades = np.cumsum(rng.normal(size=(n, time)) * (rng.random((n, time)) < np.array([.012, .003, .0005, .0005, .008])[y][:, None]), 1)
    saccades -= saccades.mean(1, keepdims=True)
    eog = .5 * eeg + .7 * coloured_noise(rng, (n, time), 1.5) + .8 * saccades / (1 + .3 * saccades.std(1, keepdims=True))
    x = np.stack([eeg, eog], -1) * gain[subject][:, None, None] * 15
    return {'x': x.astype(np.float32), 'y': y, 'subject': subject, 'classes': np.array(['W', 'N1', 'N2', 'N3', 'R']),
            'channels': np.array(['EEG', 'EOG']), 'sampling_rate_hz': np.float32(rate)}


def large(seed: int, n: int = 200_000, people: int = 200) -> dict[str, np.ndarray]:
    """Breathing and oxygen saturation, a minute at 1 Hz, 200 000 windows: steady, waxing and waning, or interrupted.

    A person's saturation, depth and rate are their own; short interruptions look like waning.
    """
    rng, time = np.random.default_rng(seed), 60
    subject = np.sort(invented_people(rng, n, people))
    y = rng.choice(3, n, p=[.7, .18, .12])
    level, depth, pace = rng.normal(95, 1.5, people), np.exp(rng.normal(0, .3, people)), rng.normal(.24, .03, people)
    x = np.empty((n, time, 2), np.float32)
    for start in range(0, n, BLOCK):
        own = slice(start, start + BLOCK)
        kind, who = y[own], subject[own]
        m = len(kind)
        breath = np.sin(wandering_phase(rng, pace[who] * rng.normal(1, .08, m), time, .08))
        wane = np.sin(wandering_phase(rng, rng.normal(1 / 45, .004, m), time, .05))
        swing = np.maximum(1 + rng.uniform(.35, 1, m)[:, None] * wane, .05)
        length = rng.gamma(6, 2, m)
        gap = 1 - np.minimum(1.5 * bumps(time, rng.uniform(10, 50, m), length / 2), 1) * rng.uniform(.6, 1, m)[:, None]
        envelope = np.choose(kind[:, None], [np.exp(.2 * coloured_noise(rng, (m, time), 2)), swing, gap])
        airflow = depth[who][:, None] * envelope * breath + .15 * coloured_noise(rng, (m, time), .5)
        dip = np.array([.3, 1.2, 3])[kind] * rng.gamma(3, 1 / 3, m)
        saturation = level[who][:, None] - dip[:, None] * bumps(time, rng.uniform(10, 60, m), np.full(m, 9.0)) + .4 * coloured_noise(
            rng, (m, time), 1.5)
        x[own] = np.stack([airflow, saturation], -1)
    return {'x': x, 'y': y, 'subject': subject, 'classes': np.array(['steady', 'periodic', 'interrupted']),
            'channels': np.array(['airflow', 'SpO2']), 'sampling_rate_hz': np.float32(1)}


def features(seed: int, n: int = 8000, people: int = 60) -> dict[str, np.ndarray]:
    """40 features in six uneven classes of three kinds each: skewed, counted and binary ones among them, in units a million apart, and
    shifted from person to person."""
    rng, hidden, number = np.random.default_rng(seed), 8, 40
    share = np.array([.4, .25, .15, .1, .06, .04])
    subject, y = invented_people(rng, n, people), rng.choice(len(share), n, p=share)
    of_class, seen = 1.1 * rng.normal(size=(len(share), hidden)), rng.normal(size=(hidden, number)) / np.sqrt(hidden)
    of_person, kind = .35 * rng.normal(size=(people, number)), rng.integers(0, 3, n)
    of_kind = .7 * rng.normal(size=(len(share), 3, hidden))
    cause = of_class[y] + of_kind[y, kind] + rng.normal(size=(n, hidden)) * np.exp(rng.normal(0, .3, (n, 1)))
    x = cause @ seen + .5 * rng.normal(size=(n, number)) + of_person[subject]
    x[:, :10] = np.exp(x[:, :10])
    x[:, 10:14] = np.floor(2 * np.exp(x[:, 10:14]))
    x[:, 14] = x[:, 14] > 0
    x *= 10.0 ** rng.integers(-3, 4, number)
    return {'x': x.astype(np.float32), 'y': y, 'subject': subject}


def tissue(seed: int, n: int = 6000, people: int = 30) -> dict[str, np.ndarray]:
    """Stained tissue under a microscope, 28 x 28 in colour, of five kinds: fat, fibres, lymphocytes, glands and mucus.

    Stain, light and focus are a slide's own; cells lie anywhere, fibres run anyhow, and a few images hold two kinds.
    """
    rng, side = np.random.default_rng(seed), 28
    names = ('fat', 'fibres', 'lymphocytes', 'glands', 'mucus')
    subject, y = invented_people(rng, n, people), rng.choice(len(names), n, p=[.15, .25, .2, .25, .15])
    violet = np.clip(rng.normal([.45, .30, .60], .05, (people, 3)), 0, 1)  # of nuclei, and of what lies between them
    pink = np.clip(rng.normal([.88, .62, .75], .04, (people, 3)), 0, 1)
    light, blur = rng.normal(1, .05, people), rng.uniform(.35, .9, people)
    row, column = np.mgrid[:side, :side]

    def discs(count, radius, spread, softness, where=None):
        """[n, side, side] from 0 to 1: `count` [n] round shapes each, anywhere or at `where` [n, most, 2] (row, column). Radius and
        softness of the edge are in pixels; radii vary by a share `spread`."""
        out = np.zeros((n, side, side))
        for i in range(int(count.max())):
            at = rng.uniform(-3, side + 3, (n, 2)) if where is None else where[:, i]
            size = radius * np.exp(rng.normal(0, spread, n))
            far = np.hypot(row - at[:, :1, None], column - at[:, 1:, None]) - size[:, None, None]
            out = np.maximum(out, (count > i)[:, None, None] / (1 + np.exp(np.clip(far / softness, -30, 30))))
        return out

    def texture(slope, along=None):
        """[n, side, side] noise of standard deviation 1, whose amplitude falls with frequency to the power of `slope`; or stretched along
        one direction, `along` [n] in radians, whatever the slope."""
        fy, fx = np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None]
        if along is None:
            weight = (np.hypot(fy, fx) + .03)[None] ** -slope
        else:
            a, b = np.cos(along)[:, None, None], np.sin(along)[:, None, None]
            weight = np.exp(-.5 * (((a * fx + b * fy) / .035) ** 2)) * (np.abs(b * fx - a * fy) + .03) ** -.3
        noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(n, side, side))) * weight).real
        return noise / noise.std((1, 2), keepdims=True)

    angle = rng.uniform(0, np.pi, n)
    centre, turn = rng.uniform(8, 20, (n, 1, 2)), np.linspace(0, 2 * np.pi, 14, endpoint=False) + rng.uniform(0, 6, (n, 1))
    ring = centre + (rng.uniform(6, 10, (n, 1)) + rng.normal(0, .7, (n, 14)))[..., None] * np.stack([np.sin(turn), np.cos(turn)], -1)
    few, many = rng.poisson(2, n), rng.poisson(24, n) + 6
    walls = 1 - discs(rng.poisson(5, n) + 3, 7, .25, .6)
    # Of each kind (nuclei, how pink it is, how white), each [n, side, side] or one number an image.
    shapes = ((.5 * discs(few, 1.5, .2, .5), .15 + .7 * walls, 1 - walls),
              (.8 * discs(few + 1, 1.7, .3, .6), .7 + .2 * texture(0, angle), np.zeros((n, 1, 1))),
              (discs(many, 2.1, .12, .5), .35 + .1 * texture(1), np.zeros((n, 1, 1))),
              (discs(np.full(n, 14), 2.2, .2, .5, ring), .55 + .1 * texture(1), .8 * discs(np.ones(n, int), 3.5, .2, 1, centre)),
              (.8 * discs(few, 1.6, .3, .6), .3 + .12 * texture(1.3), .4 + .1 * texture(1.5)))
    mixed = (rng.random(n) < .1) * rng.uniform(.2, .5, n)
    other = rng.permutation(y)

    def picture(kind):
        nuclei, rose, white = (sum(np.where((kind == k)[:, None, None], part[i], 0) for k, part in enumerate(shapes)) for i in range(3))
        white = np.clip(white, 0, 1)[..., None]
        base = 1 - np.clip(rose, 0, 1.2)[..., None] * (1 - pink[subject][:, None, None])
        base = base * (1 - .8 * white) + .8 * white * .95
        return base * (1 - nuclei[..., None]) + nuclei[..., None] * violet[subject][:, None, None]

    share = mixed[:, None, None, None]
    x = (1 - share) * picture(y) + share * picture(other)
    f2 = np.fft.fftfreq(side)[:, None] ** 2 + np.fft.fftfreq(side)[None] ** 2
    soft = np.exp(-2 * np.pi ** 2 * blur[subject][:, None, None] ** 2 * f2)[..., None]
    x = np.fft.ifft2(np.fft.fft2(x, axes=(1, 2)) * soft, axes=(1, 2)).real * light[subject][:, None, None, None]
    x = np.clip(x + .02 * rng.normal(size=x.shape), 0, 1)
    return {'x': np.round(255 * x).astype(np.float32), 'y': y, 'subject': subject, 'classes': np.array(names),
            'channels': np.array(['red', 'green', 'blue'])}


def imagined_movement(seed: int, people: int = 12, windows: int = 72) -> dict[str, np.ndarray]:
    """Two seconds of EEG, 22 electrodes at 128 Hz, while somebody imagines moving the left hand, the right, the feet or the tongue;
    `windows` of each and person.

    A movement quietens the rhythm of one place of the cortex, seen through the skull by all electrodes; rhythms, places and how much they
    quieten are a person's own, and some people's hardly do.
    """
    rng, time, rate = np.random.default_rng(seed), 256, 128.0
    y = np.tile(np.repeat(np.arange(4), windows), people)
    subject = np.repeat(np.arange(people), 4 * windows)
    n = len(y)
    grid = np.array([(r, c) for r, columns in ((2, (0,)), (1, (-2, -1, 0, 1, 2)), (0, (-3, -2, -1, 0, 1, 2, 3)), (-1, (-2, -1, 0, 1, 2)),
                                               (-2, (-1, 0, 1)), (-3, (0,))) for c in columns], float)
    home = np.array([[0, 2], [0, -2], [.3, 0], [0, 0], [-3, 0], [2, 0]])  # hands (crosswise), feet, all of the middle, back, front
    at = home + rng.normal(0, .3, (people, 6, 2))
    seen = np.exp(-((grid[:, None] - at[:, None]) ** 2).sum(-1) / (2 * 1.3 ** 2))  # [person, electrode, source]
    pitch, skill = rng.normal(11, 1, (people, 6)), rng.beta(2, 1.5, people)
    level = np.array([1.2, 1.2, .8, .7, 1.8, .8]) * np.exp(rng.normal(0, .2, (people, 6)))
    calm = np.ones((4, 6))
    calm[0, 0], calm[1, 1], calm[2, 2], calm[3, 3] = .3, .3, .3, .4
    calm[0, 1], calm[1, 0], calm[2, :2] = .8, .8, 1.25
    quiet = calm[y] ** (skill[subject] * rng.beta(4, 1.2, n))[:, None]
    sources = np.empty((n, time, 6), np.float32)
    for k in range(6):
        waxing = np.exp(.5 * coloured_noise(rng, (n, time), 2.0))
        rhythm = np.sin(wandering_phase(rng, pitch[subject, k] / rate, time, .06))
        beta = .35 * np.sin(wandering_phase(rng, 2 * pitch[subject, k] / rate, time, .06))
        amount = level[subject, k] * quiet[:, k] * np.exp(rng.normal(0, .25, n))
        sources[..., k] = amount[:, None] * waxing * (rhythm + beta)
    mixing = rng.normal(size=(people, 22, 10)) * np.exp(rng.normal(0, .3, (people, 1, 10))) / 3
    x = np.einsum('ntk,nek->nte', sources, seen[subject], optimize=True)
    x += np.einsum('ntk,nek->nte', coloured_noise(rng, (n, time, 10), 1.0), mixing[subject], optimize=True)
    x += .35 * rng.normal(size=x.shape)
    blink = (rng.random(n) < .15) * rng.uniform(2, 5, n)
    x += (blink[:, None] * bumps(time, rng.uniform(0, time, n), np.full(n, 12.0)))[..., None] * np.exp(-.7 * (3 - grid[:, 0]))
    x *= 8 * np.exp(rng.normal(0, .15, people))[subject][:, None, None]
    return {'x': x.astype(np.float32), 'y': y, 'subject': subject, 'classes': np.array(['left hand', 'right hand', 'feet', 'tongue']),
            'sampling_rate_hz': np.float32(rate)}


def tested_on_others(simulate: Callable[..., dict[str, np.ndarray]], n: int, people: int) -> Callable[..., dict[str, np.ndarray]]:
    """The simulated study, all of it to learn from, with `n` windows of `people` others as its test part."""

    def simulate_both(seed):
        known, others = simulate(seed), simulate([seed, 1], n, people)
        others['subject'] = others['subject'] + known['subject'].max() + 1
        split = np.repeat(['train', 'test'], [len(known['y']), n])
        return {**known, **{name: np.concatenate([known[name], others[name]]) for name in ('x', 'y', 'subject')}, 'split': split}

    return simulate_both


STUDIES = {'digits': digits, 'breast_cancer': table('breast_cancer', 20), 'iris': table('iris', 15),
           'wine': table('wine', 18), 'accelerometer': accelerometer, 'rare_spikes': rare_spikes,
           'sleep_eeg': tested_on_others(sleep_eeg, 2000, 40), 'large': large, 'small': tested_on_others(hearts.small, 2000, 80),
           'beats': hearts.beats, 'features': features, 'tissue': tissue, 'twelve_leads': hearts.twelve_leads,
           'rhythms': hearts.rhythms, 'imagined_movement': imagined_movement}
