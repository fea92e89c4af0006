"""What can be measured on a recording that lowers trust in a verdict about it.

Everything works on a stream of 16 kHz mono chunks in constant memory. Importing this package imports no
torch; finding speech does.
"""

from voxfide.conditions.background import Background
from voxfide.conditions.level import ActiveLevel
from voxfide.conditions.meter import ConditionMeter, Conditions, measure_conditions
from voxfide.conditions.policy import POLICY, Limit, Reason, reasons
from voxfide.conditions.spectrum import Spectrum
from voxfide.conditions.speech import Segment, SpeechDetector, SpeechModel, SpeechRule
from voxfide.conditions.waveform import Clipping, DigitalSilence

__all__ = [
    "POLICY",
    "ActiveLevel",
    "Background",
    "Clipping",
    "ConditionMeter",
    "Conditions",
    "DigitalSilence",
    "Limit",
    "Reason",
    "Segment",
    "Spectrum",
    "SpeechDetector",
    "SpeechModel",
    "SpeechRule",
    "measure_conditions",
    "reasons",
]
