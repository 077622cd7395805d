"""Bytes to meaning and back: pure codecs, no IO."""
