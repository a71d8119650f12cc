"""Whether, when and at what cost a VM will migrate, played out before it does."""

from mempattern.migration.advice import Advice, Recommendation, advise
from mempattern.migration.forecast import Forecast, forecast
from mempattern.migration.outlook import Outlook, Range
from mempattern.migration.policies.base import Action, Pass, Policy, Progress, Task
from mempattern.migration.precopy import Course, Host, precopy
from mempattern.migration.recording import Recording
from mempattern.migration.simulate import Outcome, simulate

__all__ = [
    "Action",
    "Advice",
    "Course",
    "Forecast",
    "Host",
    "Outcome",
    "Outlook",
    "Pass",
    "Policy",
    "Progress",
    "Range",
    "Recommendation",
    "Recording",
    "Task",
    "advise",
    "forecast",
    "precopy",
    "simulate",
]
