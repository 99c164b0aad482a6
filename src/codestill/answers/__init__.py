"""A teacher's answers to instructions: direct, by the baselines of AMR-Evol, and by AMR-Evol itself.

``asking`` keeps and counts what a teacher is asked; ``agreement`` holds its answers against each other;
``responses`` are the baselines; ``decompose``, ``evolve`` and ``growth`` are AMR-Evol's steps.
"""
