"""Advice: what each promise would cost on a model and a sample, and which one to take.

`run` tries what a level can do, `ladder` finds what keeps each promise in the least time, `page` shows it.
"""
