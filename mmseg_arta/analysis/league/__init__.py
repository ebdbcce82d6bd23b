"""The league: configs trained with several seeds at equal budget, tested, and put in one table.

Every run of a config with a seed goes through the stages of
:data:`~mmseg_arta.analysis.league.records.STAGES`. What a stage came to is a file of its own, so
that a league goes on where it stopped.
"""

from .plan import Entry, Run, read_entries, runs_in_order
from .records import STAGES, Store
from .run import play

__all__ = ['STAGES', 'Entry', 'Run', 'Store', 'play', 'read_entries', 'runs_in_order']
