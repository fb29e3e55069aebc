"""One file per target, the same names in each: ARTIFACT, missing(), lower()."""
