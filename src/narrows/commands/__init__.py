"""What each command of `narrows` does, as functions that return objects; the command line parses and prints."""
