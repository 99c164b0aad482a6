"""AMR-Evol: adaptive modular response evolution (arXiv:2410.00558): better answers to the same instructions.

The teacher's direct answer is decomposed into modules; verified functions for them are retrieved from a
library that grows; the teacher rewrites the answer with them; and a student is trained on the result.
``method`` swaps the answers for those of a baseline on the same instructions.

    codestill run amr_evol --method amr --count 200

Stages: proposals and code-evol (with ``instructions``), direct, modules, seed/..., then in each wave
retrieved, solved, evolved, growth; responses, student, evaluation.
Our deviations: the library grows after each wave of instructions, in their order, so that calls to the
teacher can be made together and a resumed run grows the same library; a retrieved function is used only
above a cosine threshold; a module without one may be solved by the teacher first; a teacher that generates
calls without values tests functions by agreement; the direct answer is kept where a later step fails. The
gate is ours.

``recipe`` is the method; ``instructions`` makes instructions; ``responses`` are the baselines; ``decompose``,
``evolve`` and ``growth`` are AMR-Evol's steps; ``agreement`` compares a teacher's answers with each other;
``library`` is the function library.
"""

from codestill.recipes.amr_evol.recipe import SATURATES, Config, distill

__all__ = ["SATURATES", "Config", "distill"]
