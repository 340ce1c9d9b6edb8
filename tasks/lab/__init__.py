"""The lab: seeded arithmetic problems, and tiny real models that solve, grade and repair them."""
