"""Pictures of a program: the same boxes for a plan, a simulation and a measurement."""
