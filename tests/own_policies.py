"""Policies of one's own, for the tests that replay such; workers import or load this file."""

import os
import signal

from mempattern.migration import Action, Policy


class Patient(Policy):
    """Stops at the third sync, whatever remains."""

    def after(self, done):
        return Action(stop=done.number >= 3)


class Raises(Policy):
    def after(self, done):
        raise ZeroDivisionError("no pages to divide by")


class Nonsense(Policy):
    def after(self, done):
        return Action(downtime_limit_s=-1.0)


class Interrupts(Policy):
    """As if somebody pressed Ctrl-C while it is replayed."""

    def begin(self, task):
        if task.n_pages > 25_600:
            os.kill(os.getpid(), signal.SIGINT)
        return Action()


class Terminates(Policy):
    def begin(self, task):
        if task.n_pages > 25_600:
            os.kill(os.getpid(), signal.SIGTERM)
        return Action()


class Dies(Policy):
    """Takes its whole process with it, as the kernel does when memory is short."""

    def begin(self, task):
        os._exit(9)


class NeedsMore(Policy):
    def __init__(self, patience):
        self.patience = patience


NOT_A_POLICY = 3
