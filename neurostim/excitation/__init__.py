"""Excitation: from a teacher and aggregate statistics to labelled stimuli."""
