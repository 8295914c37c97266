"""Where a study comes from: one file a source, one registry."""
