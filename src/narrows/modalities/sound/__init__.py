"""Sound: files of any format, speakers, mel spectrograms, phonemes, voice conversion, and players for the report."""

from narrows.modalities.sound.clips import Clips
from narrows.modalities.sound.dataset import SoundData, SoundSpec, open_sounds
from narrows.modalities.sound.files import to_waveform, write_sound
from narrows.modalities.sound.phoneme_tracks import PhonemeTrack, PhonemeTracks, read_phonemes
from narrows.modalities.sound.settings import SoundSettings

__all__ = [
    "Clips",
    "PhonemeTrack",
    "PhonemeTracks",
    "SoundData",
    "SoundSettings",
    "SoundSpec",
    "open_sounds",
    "read_phonemes",
    "to_waveform",
    "write_sound",
]
