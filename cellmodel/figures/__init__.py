"""Plots for papers, of arrays: drawn by matplotlib, in colours that the colour-blind can tell apart."""
