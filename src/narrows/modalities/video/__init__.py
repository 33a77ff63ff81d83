"""Video: everything particular to it, from files and live recordings to films."""
