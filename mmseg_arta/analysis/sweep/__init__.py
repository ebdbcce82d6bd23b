"""The sweep: every bundled config is run on toy data.

Of every family, head and data set one config passes two training iterations and a test by
stock ``mim``; the others pass a training step and a prediction at reduced depth.
"""

from .plan import Job, Subject, make_plan
from .records import Record, Records, write_tables
from .run import run_plan

__all__ = ['Job', 'Record', 'Records', 'Subject', 'make_plan', 'run_plan', 'write_tables']
