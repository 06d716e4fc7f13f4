"""Stream programs on CUDA: `streams` issues them eagerly, `graph` within one capture; both through one small interface.

api         the calls of the CUDA runtime that the back ends make, as a protocol
device      those calls on a real GPU
recording/  those calls on a CPU, with all of CUDA's rules: what it would reject or get silently wrong is an error
issuer      walks the program: waits, launches, records, and who may drop which tensor when
segments    how a period over several devices is cut into graphs, each of one device, and in which order they go
"""
