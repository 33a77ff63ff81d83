"""Sound: files of any format, speakers, mel spectrograms, phonemes, voice conversion, and players for the report."""
