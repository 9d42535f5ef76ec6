"""Copies of what an approved statement destroys: planned, taken, proven, kept, and given back."""
