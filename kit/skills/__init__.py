"""The skills wing: behaviour learned without a task, a method a file.

A method of discovery has `sample_skill`, `reward` and `update` (`kit.types.SkillMethod`); `trainer` runs any of them.
A policy reads the skill z behind its observation, concat([s, z]), and has Stable-Baselines3's `predict`.
"""
