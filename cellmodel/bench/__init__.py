"""Recipes on labelled data sets by one protocol: fixed settings and seeds, labels read for scoring alone."""
