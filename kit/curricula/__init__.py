"""Curricula: teachers that choose tasks, environment design, and schedules."""
