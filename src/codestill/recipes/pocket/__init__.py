"""The bundled pocket models, made anew: the teacher, the base students, and the exam of the teacher."""
