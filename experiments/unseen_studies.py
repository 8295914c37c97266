"""Studies that nothing in neurostim was tuned for: simulated recordings of invented people, and scikit-learn's data with people invented.

Each is a function of a seed and gives the arrays of a `.npz` file for `own_study`. What tells people apart (gains, rates, how a sensor is
worn) is drawn once a person, what tells classes apart overlaps between people and with noise and artefacts, so that real windows
are not classified without errors. Of four people a test says little: studies that know few are tested on many others.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

BLOCK = 20_000  # windows simulated at once: the large study must not need more memory than the run that it is for


def coloured_noise(rng: np.random.Generator, shape: tuple[int, ...], slope: float = 1.0) -> np.ndarray:
    """Noise [n, time, ...] along time whose power falls with frequency to the power of `slope`, of standard deviation 1 on average."""
    frequencies = np.fft.rfftfreq(shape[1])
    frequencies[0] = frequencies[1]
    weights = (frequencies ** (-slope / 2)).astype(np.float32).reshape(1, -1, *[1] * (len(shape) - 2))
    noise = np.fft.irfft(np.fft.rfft(rng.normal(size=shape).astype(np.float32), axis=1) * weights, shape[1], axis=1)
    return (noise / noise.std()).astype(np.float32)


def wandering_phase(rng: np.random.Generator, rate: np.ndarray, time: int, jitter: float) -> np.ndarray:
    """Radians [n, time] of rhythms with `rate` [n] cycles a sample that wander by a share `jitter` and begin anywhere."""
    speed = rate[:, None] * (1 + jitter * coloured_noise(rng, (len(rate), time), 2.0))
    return 2 * np.pi * (np.cumsum(speed, 1) + rng.uniform(size=(len(rate), 1)))


def bumps(time: int, centre: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Gaussian bumps [n, time] of height 1 at `centre` [n], `width` [n] standard deviations wide, in samples."""
    return np.exp(-0.5 * ((np.arange(time) - centre[:, None]) / width[:, None]) ** 2)


def bursts(rng: np.random.Generator, n: int, time: int, count: np.ndarray, width: float) -> np.ndarray:
    """Sums [n, time] of `count` [n] bumps of height 1, `width` samples wide, at random places."""
    out = np.zeros((n, time), np.float32)
    for i in range(int(count.max(initial=0))):
        rows = np.flatnonzero(count > i)
        out[rows] += bumps(time, rng.uniform(0, time, len(rows)), np.full(len(rows), width))
    return out


def invented_people(rng: np.random.Generator, n: int, people: int) -> np.ndarray:
    """int [n]: people with as many windows each, or one more, in random order."""
    return rng.permutation(np.arange(n) % people)


def digits(seed: int) -> dict[str, np.ndarray]:
    """scikit-learn's digits, 8 x 8; thirteen people are invented, each wrote a stretch of them. The seed says who wrote which one."""
    from sklearn.datasets import load_digits
    data = load_digits()
    n = len(data.target)
    return {'x': data.images[..., None].astype(np.float32), 'y': data.target, 'subject': (np.arange(n) * 13 // n + 4 * seed) % 13}


def breast_cancer(seed: int) -> dict[str, np.ndarray]:
    """scikit-learn's breast cancer features, dealt out to twenty invented people."""
    from sklearn.datasets import load_breast_cancer
    data = load_breast_cancer()
    people = invented_people(np.random.default_rng(seed), len(data.target), 20)
    return {'x': data.data.astype(np.float32), 'y': data.target, 'subject': people}


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


STUDIES = {'digits': digits, 'breast_cancer': breast_cancer, 'accelerometer': accelerometer, 'rare_spikes': rare_spikes,
           'sleep_eeg': tested_on_others(sleep_eeg, 2000, 40), 'large': large, 'small': tested_on_others(small, 2000, 80), 'beats': beats,
           'features': features, 'tissue': tissue, 'twelve_leads': twelve_leads, 'imagined_movement': imagined_movement}
