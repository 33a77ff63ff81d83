"""Music: MIDI files as piano rolls, and back to MIDI files."""
