"""What the dirty pages say about a VM: is it memory intensive, and which pattern has it."""

from mempattern.classify.kinds import Evidence, Kind, Pattern
from mempattern.classify.mp import MP
from mempattern.classify.patterns import PatternDetector
from mempattern.classify.verdict import Verdict

__all__ = ["MP", "Evidence", "Kind", "Pattern", "PatternDetector", "Verdict"]
