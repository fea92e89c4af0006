"""One recording, from file to verdict: windows, speech, trust, stretches, explanation."""
