"""neurostim: shares what a network learnt from private recordings, without the recordings.

    import neurostim as ns
    study = ns.load_study('breathing')
    teacher = ns.train_teacher(study)
    stimuli = ns.excite(teacher, count=10_000)
    student = ns.fit_student('random_forest', stimuli, teacher)
    results = ns.evaluate(study, teacher, stimuli, students=('cnn', 'random_forest'))
    print(ns.table(results))
"""

from __future__ import annotations

__version__ = '0.1.0'


def load_study(name: str, path=None, seed: int = 0, **options):
    """A :class:`neurostim.study.Study`; names and options are those of `neurostim.data`."""
    from neurostim import data
    return data.load(name, path, seed, **options)


def train_teacher(study, models=('cnn', 'gru', 'mlp', 'cnn', 'mlp'), seed: int = 0, flow_steps: int = 4000,
                  identity_models=(), committee: str = 'together', novices=(), **options):
    """A :class:`neurostim.teacher.Teacher`: a committee of zoo members, trained on the study's training windows.

    Args:
      flow_steps: of the flow from which stimuli start; 0 leaves it out, and stimuli start from a mixture.
      identity_models: zoo members that learn to name people, to be inhibited by ``excite(teacher, weights=Weights(inhibit=1.0))``
        (:class:`neurostim.excitation.objective.Weights`).
      committee: 'groups' or 'people' lets each member learn from others of them; 'together' lets all learn from everybody.
      novices: small zoo members, such as ('linear', 'mlp'), that learn little, so that ``excite(teacher, surplus=4)`` can sift by them.
      options: fields of :class:`neurostim.training.TrainingOptions`, e.g. ``steps``.
    """
    from neurostim import teacher, training
    from neurostim.committee import CommitteeOptions
    from neurostim.excitation.flow import FlowOptions
    from neurostim.identity import IdentityOptions
    made = teacher.train_teacher(study, tuple(models), seed, training.TrainingOptions(**options), FlowOptions(steps=flow_steps),
                                 IdentityOptions(tuple(identity_models)), CommitteeOptions(committee))
    return teacher.with_novices(made, tuple(novices), seed)


def excite(teacher, seed: int = 0, **settings):
    """Stimuli in memory: ``x`` in the study's units, ``probabilities`` (the teacher's whole softmax), ``label``.

    Args:
      settings: fields of :class:`neurostim.excitation.produce.Settings`, e.g. ``count``, ``method``, ``steps``.
    """
    from neurostim.excitation import produce
    return produce.generate(teacher, produce.Settings(**settings), seed)


def fit_student(name: str, stimuli, teacher, seed: int = 0, advice=None):
    """A student trained on stimuli alone; its ``predict`` takes windows in the study's units and gives probabilities.

    Args:
      teacher: only its scaling is used, and whether windows may begin anywhere; both may be told to whom stimuli are given.
      advice: the `advice` of the student in results.json or in the card of the stimuli, where there is one.
    """
    from neurostim import students
    from neurostim.sources import synthetic_source
    source = synthetic_source(teacher.scaling.forward(stimuli.x), stimuli.probabilities, seed, stimuli.surprise)
    advice = students.Advice(**advice) if advice else None
    student = students.fit(name, source, seed, students.training_options(teacher.shift), advice=advice)
    return students.Student(name, lambda x: student.predict(teacher.scaling.forward(x)))


def evaluate(study, teacher, stimuli, control=None, students=('cnn', 'mlp', 'random_forest'), seeds: int = 3,
             steps: int | None = None, advise: bool = False) -> dict:
    """Students on real windows, on stimuli and on a control, compared on the study's test windows; the shape of results.json.

    Args:
      control: unexcited stimuli; None draws as many as there are stimuli, by the default method.
      steps: most optimiser steps of a network; None: :data:`neurostim.students.STEPS`.
      advise: whether training windows say how some students learn best from stimuli (:mod:`neurostim.evaluation.advice`).
    """
    from neurostim.evaluation import phase
    from neurostim.students import STEPS
    return phase.evaluate_arrays(study, teacher, stimuli, control, tuple(students), seeds, steps or STEPS, advise)


def table(results: dict) -> str:
    """Results as a table for the terminal."""
    from neurostim import report
    return report.table(results)
