"""Motion: skeletons and robots as BVH files and tables, as features of a model, and back to such files."""
