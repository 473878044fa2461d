"""Measuring the gap between a simulation and an arm, and closing it."""
