"""The embedded default study: a simulator of respiration in sleep, so that the whole path runs without any download.

Every person breathes in their own way (rate, waveform, variability, noise) and is ill to a different degree. Apneas and
hypopneas come in clusters and end in recovery breaths; movements, drift and pauses too short to be scored make the task a
realistic one. No figure here stands for a real person: the simulator is a test bench, not a model of physiology.

Sources:
  AASM: Berry et al. 2012, "Rules for scoring respiratory events in sleep", J Clin Sleep Med 8(5): an apnea is a fall of airflow
    by >= 90 %, a hypopnea by >= 30 %, each for >= 10 s.
  Apnea-ECG: Penzel et al. 2000, "The Apnea-ECG database", Computers in Cardiology 27: minute labels, hypopneas scored as apnea,
    records from none to most of the night disturbed.
  Breathing at rest takes 12 to 20 breaths a minute in adults; apneas mostly last 10 to 60 s. Breath-to-breath variability is
    correlated (first order autoregressive: Modarreszadeh et al. 1990, J Appl Physiol 69(2)).
Where no source is named the value was chosen so that signals look like recordings and classifiers find the task neither
trivial nor hopeless.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import ndimage, signal

from neurostim.errors import UserError
from neurostim.study import Study, make_study

CLASSES = ('normal', 'apnea')
WINDOW_SECONDS = 60
SAMPLING_RATE_HZ = 1
# Breaths are drawn finer than they are kept, and decimated through an anti-alias filter, as a recorder does.
OVERSAMPLING = 8

# AASM: an event counts when airflow falls by at least 30 % for at least 10 s.
SCORED_RESIDUAL = 0.7
SCORED_SECONDS = 10.0
# A minute is labelled apnea when scored events fill at least this much of it: the length of the shortest event there is. (The
# experts of Apnea-ECG asked whether an event was in progress at the minute's start; a window's share is less arbitrary and can be
# read from the window itself.)
LABEL_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Sleeper:
    """One person's breathing; the defaults are a middling patient. Flow is in units of a normal breath's amplitude.

    Attributes:
      breaths_per_minute: mean rate (adults at rest: 12 to 20).
      period_variation, depth_variation: coefficients of variation, breath to breath.
      memory: first order autocorrelation of both between successive breaths, in [0, 1).
      second_harmonic, second_harmonic_phase_rad: the waveform, beside its fundamental of amplitude 1.
      noise: standard deviation of the recorder's noise.
      drift: standard deviation of the slow wander (minutes) of the baseline and, as a logarithm, of the amplitude.
      disturbed_share: share of the night spent in clusters of events, in [0, 1].
      event_seconds, event_spread: median length of events and standard deviation of its logarithm.
      gap_seconds: median breathing time between the events of a cluster.
      events_per_cluster: mean number.
      hypopnea_share: share of events that only lessen the flow.
      apnea_residual, hypopnea_residual: mean share of the flow that remains; single hypopneas vary by +- 0.2.
      recovery: how much deeper the first breaths after an event are (0.4: by 40 %), fading within `RECOVERY_SECONDS`.
      movements_per_hour, movement_amplitude: artefacts of arousals and turning over, each 3 to 20 s long.
    """

    breaths_per_minute: float = 15.0
    period_variation: float = 0.08
    depth_variation: float = 0.15
    memory: float = 0.4
    second_harmonic: float = 0.25
    second_harmonic_phase_rad: float = 0.5
    noise: float = 0.1
    drift: float = 0.15
    disturbed_share: float = 0.4
    event_seconds: float = 25.0
    event_spread: float = 0.5
    gap_seconds: float = 12.0
    events_per_cluster: float = 15.0
    hypopnea_share: float = 0.3
    apnea_residual: float = 0.05
    hypopnea_residual: float = 0.4
    recovery: float = 0.4
    movements_per_hour: float = 6.0
    movement_amplitude: float = 1.5

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            low, high = LIMITS.get(field.name, (0.0, np.inf))
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise UserError(f"breathing: '{field.name}' is {value!r}: give a number from {low} to {high}")


RECOVERY_SECONDS = 8.0
DRIFT_SECONDS = 240.0
LIMITS = {
    'breaths_per_minute': (6.0, 28.0),  # above 30 a minute a breath would be faster than half the sampling rate
    'period_variation': (0.0, 0.5), 'depth_variation': (0.0, 1.0), 'memory': (0.0, 0.99),
    'second_harmonic_phase_rad': (-2 * np.pi, 2 * np.pi), 'disturbed_share': (0.0, 1.0), 'event_seconds': (5.0, 120.0),
    'event_spread': (0.0, 1.0), 'gap_seconds': (5.0, 600.0), 'events_per_cluster': (1.0, 1000.0), 'hypopnea_share': (0.0, 1.0),
    'apnea_residual': (0.0, 0.1), 'hypopnea_residual': (0.0, 1.0), 'recovery': (0.0, 5.0), 'movements_per_hour': (0.0, 60.0),
}

# The ranges from which people are drawn, uniformly; everything not named keeps its default. Rates stop at 18 a minute: nearer to
# half the sampling rate the anti-alias filter would take part of the breaths away.
POPULATION = {
    'breaths_per_minute': (12.0, 18.0), 'period_variation': (0.04, 0.12), 'depth_variation': (0.08, 0.22), 'memory': (0.2, 0.6),
    'second_harmonic': (0.1, 0.4), 'second_harmonic_phase_rad': (-np.pi, np.pi), 'noise': (0.05, 0.2), 'drift': (0.05, 0.25),
    'event_seconds': (18.0, 40.0), 'gap_seconds': (8.0, 16.0), 'events_per_cluster': (5.0, 25.0), 'hypopnea_share': (0.2, 0.6),
    'apnea_residual': (0.02, 0.1), 'hypopnea_residual': (0.35, 0.55), 'recovery': (0.1, 0.6), 'movements_per_hour': (2.0, 10.0),
    'movement_amplitude': (0.8, 2.0),
}
MOST_DISTURBED_SHARE = 0.9


def load(seed: int = 0, subjects: int = 24, minutes_per_subject: int = 120, sleepers: Sequence[Sleeper] | None = None) -> Study:
    """Simulates nights and cuts them into minutes.

    Args:
      seed: equal seeds give equal bytes.
      subjects: how many people; ignored where `sleepers` are given. Many short nights rather than few long ones, so that enough
        people are held out for an interval over people to mean something.
      minutes_per_subject: length of each night.
      sleepers: the people; None draws them from `POPULATION`.

    Returns:
      A study with x float32 [subjects * minutes, 60, 1] (1 Hz), scaled per night; a third of the people is held out.

    Raises:
      UserError: a count that is no positive integer, fewer than two people.
    """
    for name, value, least in (('seed', seed, 0), ('subjects', subjects, 2), ('minutes_per_subject', minutes_per_subject, 10)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise UserError(f"breathing: '{name}' is {value!r}: give a whole number of at least {least}")
    if sleepers is None:
        sleepers = draw_sleepers(subjects, np.random.default_rng([seed, 0]))
    nights = [night(sleeper, minutes_per_subject, np.random.default_rng([seed, 1, i])) for i, sleeper in enumerate(sleepers)]
    digits = len(str(len(sleepers)))
    return make_study(
        'breathing',
        np.concatenate([windows for windows, _ in nights]),
        np.concatenate([labels for _, labels in nights]),
        np.repeat([f's{i + 1:0{digits}d}' for i in range(len(sleepers))], minutes_per_subject),
        classes=CLASSES, channels=('airflow',), sampling_rate_hz=SAMPLING_RATE_HZ, where='breathing',
        notes=('simulated respiration: no real person is in this study',),
    )


def draw_sleepers(count: int, rng: np.random.Generator) -> list[Sleeper]:
    """Draws people from `POPULATION`; their severities are spread evenly, as in Apnea-ECG, from almost well to gravely ill."""
    severity = rng.permutation((np.arange(count) + rng.uniform(size=count)) / count)
    drawn = {name: rng.uniform(low, high, count) for name, (low, high) in POPULATION.items()}
    drawn['disturbed_share'] = MOST_DISTURBED_SHARE * severity
    return [Sleeper(**{name: float(values[i]) for name, values in drawn.items()}) for i in range(count)]


def night(sleeper: Sleeper, minutes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One person's night in minutes: windows float32 [minutes, 60, 1], scaled over the night without labels, and labels [minutes]."""
    flow, scored = simulate(sleeper, minutes * WINDOW_SECONDS, rng)
    flow = robust_scale(signal.decimate(flow, OVERSAMPLING, ftype='fir'))
    event_seconds = scored.reshape(minutes, -1).sum(1) / (SAMPLING_RATE_HZ * OVERSAMPLING)
    return flow.reshape(minutes, WINDOW_SECONDS, 1).astype(np.float32), (event_seconds >= LABEL_SECONDS).astype(np.int32)


def simulate(sleeper: Sleeper, seconds: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Airflow and whether a scored event is in progress: float64 and bool [seconds * OVERSAMPLING].

    flow = amplitude drift x effect of events x breath depth x waveform(phase) + baseline drift + movements + noise
    """
    rate_hz = SAMPLING_RATE_HZ * OVERSAMPLING
    time = np.arange(seconds * rate_hz) / rate_hz
    effect, scored = event_effect(time, *draw_events(sleeper, seconds, rng), recovery=sleeper.recovery)
    # Events begin and end within a breath, not within a sample.
    effect = ndimage.gaussian_filter1d(effect, 1.0 * rate_hz)
    baseline, log_gain = sleeper.drift * _drift(time, rng), sleeper.drift * _drift(time, rng)
    flow = np.exp(log_gain) * effect * breaths(sleeper, time, rng) + baseline
    return flow + movements(sleeper, time, rng) + sleeper.noise * rng.standard_normal(len(time)) * np.sqrt(OVERSAMPLING), scored


def breaths(sleeper: Sleeper, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Undisturbed flow [time]: breath k has its own period and depth, both autoregressive and log-normal."""
    mean_seconds = 60 / sleeper.breaths_per_minute
    count = int(2 * (time[-1] + 1) / mean_seconds) + 100
    period = mean_seconds * np.exp(sleeper.period_variation * _autoregressive(count, sleeper.memory, rng))
    depth = np.exp(sleeper.depth_variation * _autoregressive(count, sleeper.memory, rng))
    onset = np.cumsum(period) - period[0] * rng.uniform(1, 2)
    phase = 2 * np.pi * np.interp(time, onset, np.arange(count))
    wave = np.sin(phase) + sleeper.second_harmonic * np.sin(2 * phase + sleeper.second_harmonic_phase_rad)
    return np.interp(time, onset, depth) * wave


def draw_events(sleeper: Sleeper, seconds: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start, end [s] and residual flow of the night's events, each [events], in order and apart.

    A cluster's events alternate with gaps; after an event the cluster ends with probability 1 / `events_per_cluster` and a quiet
    time follows, so long that clusters take up `disturbed_share` of the night. Some events are shorter than 10 s or shallower than
    30 %: they disturb the breathing and are not scored, as in reality.
    """
    share = sleeper.disturbed_share
    if share == 0:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    count = int(seconds / 10) + 1
    length = np.clip(sleeper.event_seconds * np.exp(sleeper.event_spread * rng.standard_normal(count)), 6, 120)
    gap = np.maximum(sleeper.gap_seconds * np.exp(0.4 * rng.standard_normal(count)), 5)
    ends = rng.uniform(size=count) < 1 / sleeper.events_per_cluster
    quiet_seconds = sleeper.events_per_cluster * (length.mean() + gap.mean()) * (1 - share) / share
    gap += ends * rng.exponential(quiet_seconds, count)
    first = rng.uniform() * gap[0] + (rng.uniform() > share) * rng.exponential(quiet_seconds)
    start = first + np.concatenate([[0], np.cumsum(length + gap)[:-1]])
    hypopnea = np.clip(sleeper.hypopnea_residual + rng.uniform(-0.2, 0.2, count), 0.1, 0.9)
    apnea = np.minimum(sleeper.apnea_residual * rng.uniform(0.5, 1.5, count), 0.1)
    residual = np.where(rng.uniform(size=count) < sleeper.hypopnea_share, hypopnea, apnea)
    return start, start + length, residual


def event_effect(time, start, end, residual, recovery: float) -> tuple[np.ndarray, np.ndarray]:
    """The factor that events put on the flow, and whether a scored event is in progress: float64 and bool [time]."""
    if len(start) == 0:
        return np.ones(len(time)), np.zeros(len(time), bool)
    latest = np.searchsorted(start, time, side='right') - 1
    which = np.maximum(latest, 0)
    begun, inside = latest >= 0, (latest >= 0) & (time < end[which])
    # The deeper the event, the stronger the breaths that make up for it.
    deeper = recovery * (1 - residual[which]) * np.exp(-np.maximum(time - end[which], 0) / RECOVERY_SECONDS)
    effect = np.where(inside, residual[which], 1 + begun * deeper)
    scored = (end - start >= SCORED_SECONDS) & (residual <= SCORED_RESIDUAL)
    return effect, inside & scored[which]


def movements(sleeper: Sleeper, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bursts of slow irregular flow [time]: arousals, turning over, a slipped cannula."""
    count = rng.poisson(sleeper.movements_per_hour * (time[-1] + 1) / 3600)
    middle, half = rng.uniform(0, time[-1], count), rng.uniform(1.5, 10, count)
    rate_hz = SAMPLING_RATE_HZ * OVERSAMPLING
    irregular = ndimage.gaussian_filter1d(rng.standard_normal(len(time)), 0.5 * rate_hz)
    burst = np.zeros(len(time))
    for m, h in zip(middle, half, strict=True):
        near = slice(max(0, int((m - h) * rate_hz)), int((m + h) * rate_hz))
        burst[near] = np.maximum(burst[near], 1 - np.abs(time[near] - m) / h)
    return sleeper.movement_amplitude * burst * irregular / irregular.std()


def robust_scale(record: np.ndarray) -> np.ndarray:
    """Median 0 and half the range from the 5th to the 95th percentile 1, over a record [time]; gross artefacts end at +- 6."""
    low, middle, high = np.percentile(record, [5, 50, 95])
    return np.clip((record - middle) / max((high - low) / 2, 1e-6), -6, 6)


def _autoregressive(count: int, memory: float, rng: np.random.Generator) -> np.ndarray:
    """A stationary first order autoregressive series [count] of unit variance."""
    shocks = rng.standard_normal(count) * np.sqrt(1 - memory**2)
    shocks[0] /= np.sqrt(1 - memory**2)
    return signal.lfilter([1], [1, -memory], shocks)


def _drift(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A smooth wander [time] of about unit variance that decorrelates within `DRIFT_SECONDS`."""
    knots = np.arange(0, time[-1] + 2 * DRIFT_SECONDS, DRIFT_SECONDS)
    return np.interp(time, knots, rng.standard_normal(len(knots)))
