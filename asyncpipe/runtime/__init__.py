"""Everything that runs a program: stages, weights, optimizers and the back ends."""
